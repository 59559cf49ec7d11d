import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import type { KubernetesTool } from '#tools/kubernetes/build.ts'
import { startProgram, waitUntilReady, type Program } from './child.ts'
import type { ControlPlane, StaticUser } from './control-plane.ts'
import { kubeconfigFor } from './kubeconfig.ts'
import { NODE, nodePaths } from './node-files.ts'

export type Binaries = Readonly<Record<KubernetesTool, string>>
export type Launch = (name: string, command: string, args: readonly string[]) => Promise<Program>

/** Each component is somebody, with the rights that Kubernetes' own roles give it. */
export const COMPONENT_USERS = {
  scheduler: { name: 'system:kube-scheduler', groups: [] },
  proxy: { name: 'system:kube-proxy', groups: [] },
  kubelet: { name: `system:node:${NODE.name}`, groups: ['system:nodes'] },
  dns: { name: 'signet-test-dns', groups: ['system:masters'] },
} as const satisfies Record<string, StaticUser>

/** Starts programs inside of the node's namespaces. */
export function launcher(folder: string, enter: readonly string[], binaries: Binaries): Launch {
  // containerd looks for its shim, the others for mount and iptables.
  const PATH = [path.dirname(binaries['containerd-shim-runc-v2']), process.env['PATH'] ?? '', '/usr/sbin:/sbin'].join(
    ':',
  )
  return (name, command, args) =>
    startProgram({
      name,
      command: enter[0] ?? '',
      args: [...enter.slice(1), command, ...args],
      logFile: path.join(folder, `${name}.log`),
      env: { PATH, HOME: folder },
    })
}

/** All but containerd, etcd and the API server. */
export async function startComponents(
  folder: string,
  plane: ControlPlane,
  binaries: Binaries,
  launch: Launch,
): Promise<Program[]> {
  const paths = nodePaths(folder)
  const kubeconfigs = { admin: plane.token } as Record<string, string>
  for (const [name, user] of Object.entries(COMPONENT_USERS)) kubeconfigs[name] = plane.tokenOf(user.name)
  for (const [name, token] of Object.entries(kubeconfigs)) {
    await writeFile(paths.kubeconfig(name), kubeconfigFor(plane.url, plane.ca, token), { mode: 0o600 })
  }
  await writeFile(paths.at('dns.token'), plane.tokenOf(COMPONENT_USERS.dns.name), { mode: 0o600 })
  await mkdir(paths.at('kubelet-pki'), { recursive: true })
  return Promise.all([
    launch('dns', process.execPath, [
      path.join(import.meta.dirname, 'dns-loop.ts'),
      NODE.address,
      plane.url,
      plane.caFile,
      paths.at('dns.token'),
    ]),
    launch('kubelet', binaries.kubelet, [
      `--config=${paths.kubelet}`,
      `--kubeconfig=${paths.kubeconfig('kubelet')}`,
      `--root-dir=${paths.kubeletRoot}`,
      `--cert-dir=${paths.at('kubelet-pki')}`,
      `--hostname-override=${NODE.name}`,
      `--node-ip=${NODE.address}`,
    ]),
    launch('kube-controller-manager', binaries['kube-controller-manager'], [
      `--kubeconfig=${paths.kubeconfig('admin')}`,
      `--service-account-private-key-file=${plane.serviceAccountKeyFile}`,
      `--root-ca-file=${plane.caFile}`,
      '--bind-address=127.0.0.1',
      '--leader-elect=false',
    ]),
    launch('kube-scheduler', binaries['kube-scheduler'], [
      `--kubeconfig=${paths.kubeconfig('scheduler')}`,
      '--bind-address=127.0.0.1',
      '--leader-elect=false',
    ]),
    launch('kube-proxy', binaries['kube-proxy'], [
      `--kubeconfig=${paths.kubeconfig('proxy')}`,
      `--hostname-override=${NODE.name}`,
      '--proxy-mode=iptables',
      `--cluster-cidr=${NODE.pods}`,
      // These limits are the machine's, not the node's.
      '--conntrack-max-per-core=0',
      '--conntrack-tcp-timeout-established=0s',
      '--conntrack-tcp-timeout-close-wait=0s',
      `--bind-address=${NODE.address}`,
      '--healthz-bind-address=127.0.0.1:10256',
      '--metrics-bind-address=127.0.0.1:10249',
    ]),
  ])
}

export type Inside = (command: string, args: readonly string[], stdin?: string) => Promise<string>

/** Imports an archive of images for the kubelet. */
export async function importImages(folder: string, binaries: Binaries, inside: Inside, archive: string): Promise<void> {
  const ctr = ['--address', nodePaths(folder).socket, '--namespace', 'k8s.io']
  await inside(binaries.ctr, [...ctr, 'images', 'import', '--local', archive])
}

export async function waitForContainerd(
  folder: string,
  containerd: Program,
  binaries: Binaries,
  inside: Inside,
): Promise<void> {
  const ctr = ['--address', nodePaths(folder).socket, '--connect-timeout', '2s', 'version']
  const answers = (): Promise<boolean> => inside(binaries.ctr, ctr).then(() => true)
  await waitUntilReady('containerd answered', [containerd], answers, 60_000)
}
