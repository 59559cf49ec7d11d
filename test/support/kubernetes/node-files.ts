import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'

/** Addresses inside of the node's own network namespace: nothing outside sees them, so every node has the same. */
export const NODE = { name: 'node1', address: '10.99.0.1', pods: '10.244.0.0/24' } as const

/** Where a node keeps what. Short, for a unix socket's path has 107 characters at most. */
export function nodePaths(folder: string) {
  const at = (...parts: string[]): string => path.join(folder, ...parts)
  return {
    socket: at('cd.sock'),
    relay: at('relay.sock'),
    containerd: at('containerd.toml'),
    cni: at('cni'),
    kubelet: at('kubelet.yaml'),
    kubeletRoot: at('kubelet'),
    kubeconfig: (name: string) => at(`${name}.kubeconfig`),
    at,
  }
}

export async function writeNodeFiles(
  folder: string,
  { runc, cniPlugins, cgroup, pauseImage }: { runc: string; cniPlugins: string; cgroup: string; pauseImage: string },
): Promise<void> {
  const paths = nodePaths(folder)
  await mkdir(paths.cni, { recursive: true })
  await mkdir(paths.kubeletRoot, { recursive: true })
  await writeFile(paths.containerd, containerdConfig(folder, { runc, cniPlugins, pauseImage }))
  await writeFile(path.join(paths.cni, '10-ptp.conflist'), JSON.stringify(networkConfig(folder)))
  await writeFile(paths.kubelet, JSON.stringify(kubeletConfig(folder, cgroup)))
}

function containerdConfig(folder: string, options: { runc: string; cniPlugins: string; pauseImage: string }): string {
  const { socket, cni, at } = nodePaths(folder)
  return `version = 3
root = "${at('containerd/root')}"
state = "${at('containerd/state')}"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.erofs"]
[grpc]
  address = "${socket}"
[ttrpc]
  address = "${socket}.ttrpc"
[plugins.'io.containerd.internal.v1.opt']
  path = "${at('containerd/opt')}"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "${options.pauseImage}"
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["${options.cniPlugins}"]
  conf_dir = "${cni}"
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = "runc"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = "${options.runc}"
  SystemdCgroup = false
`
}

/** Each pod on a link of its own, routed: on a bridge, the answers of one pod to another would go around what kube-proxy translated. */
function networkConfig(folder: string): object {
  const ipam = {
    type: 'host-local',
    dataDir: path.join(folder, 'ipam'),
    ranges: [[{ subnet: NODE.pods }]],
    routes: [{ dst: '0.0.0.0/0' }],
  }
  return { cniVersion: '1.0.0', name: 'pods', plugins: [{ type: 'ptp', ipMasq: false, ipam }] }
}

function kubeletConfig(folder: string, cgroup: string): object {
  const { socket, at } = nodePaths(folder)
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    authorization: { mode: 'AlwaysAllow' },
    address: NODE.address,
    healthzBindAddress: '127.0.0.1',
    readOnlyPort: 0,
    clusterDNS: [NODE.address],
    clusterDomain: 'cluster.local',
    resolvConf: '',
    podLogsDir: at('pod-logs'),
    cgroupDriver: 'cgroupfs',
    cgroupRoot: `/${cgroup}`,
    cgroupsPerQOS: true,
    enforceNodeAllocatable: [],
    failSwapOn: false,
    failCgroupV1: false,
    containerRuntimeEndpoint: `unix://${socket}`,
    // A test machine's disk may be nearly full: that is not what is tested.
    evictionHard: { 'imagefs.available': '0%', 'nodefs.available': '0%', 'memory.available': '1Mi' },
    imageGCHighThresholdPercent: 100,
    localStorageCapacityIsolation: false,
    registerWithTaints: [],
  }
}
