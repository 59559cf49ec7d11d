import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ensureKubernetesTool, KUBERNETES_TOOLS } from '#tools/kubernetes/build.ts'
import { ensureHelm } from '#tools/kubernetes/helm.ts'
import { NODE_IMAGES } from '#tools/kubernetes/images.ts'
import { runTool } from '#tools/kubernetes/run-tool.ts'
import { createCgroups, createNamespaces, REMOVE_CGROUPS } from './kubernetes/namespaces.ts'
import {
  COMPONENT_USERS,
  importImages,
  launcher,
  startComponents,
  waitForContainerd,
  type Binaries,
  type Inside,
} from './kubernetes/components.ts'
import { describeCluster } from './kubernetes/describe.ts'
import { removeLeftovers, writeOwner } from './kubernetes/leftovers.ts'
import { createObjects, type Objects } from './kubernetes/objects.ts'
import { startControlPlane } from './kubernetes/control-plane.ts'
import { startKeeper } from './kubernetes/keeper.ts'
import { NODE, nodePaths, writeNodeFiles } from './kubernetes/node-files.ts'
import { checkNodeRequirements } from './kubernetes/node-requirements.ts'
import { connectThrough } from './kubernetes/relay.ts'
import { createWire, type Connect, type Wire } from './kubernetes/wire.ts'
import type { ApiClient } from './kubernetes/api-client.ts'

/**
 * A real one-node cluster: etcd, kube-apiserver, controller-manager, scheduler, kube-proxy, containerd and kubelet, in network, mount and
 * process namespaces of their own; about 10 s. When its first process ends, and it does when this one ends, nothing is left of it.
 * There is no other network in it: images come from `loadImages`. Needs root.
 *
 *   const node = await startNode({ images: await ensureImages() })
 *   await node.kubectl(['apply', '-f', '-'], yaml)
 *   const answer = await node.http('http://10.96.3.4/reports')
 *   await node.stop()
 */
export type TestNode = Objects & {
  readonly url: string
  readonly kubeconfig: string
  readonly token: string
  readonly ca: string
  readonly request: ApiClient['request']
  kubectl(args: readonly string[], stdin?: string): Promise<string>
  helm(args: readonly string[]): Promise<string>
  /** An HTTP call from the node to a pod's, Service's or the node's address; `https` is checked with `ca`, when given. */
  readonly http: Wire['send']
  /** Another client of the same kind, that trusts `ca` and connects to where `host` says, whatever the URL's name is. */
  wire(options?: { ca?: string; host?: string }): Wire
  /** Runs a program on the node: its standard output. */
  run(command: string, args: readonly string[], stdin?: string): Promise<string>
  loadImages(archive: string): Promise<void>
  /** Asks every 250 ms until the answer is neither false, null nor undefined; when time is up, shows what the cluster says. */
  waitFor<T>(what: string, ask: () => Promise<T | false | null | undefined>, timeoutMs?: number): Promise<T>
  /** Pods, events and the end of every container's log, for a failure's message. */
  describe(): Promise<string>
  stop(): Promise<void>
}

const START_TIMEOUT_MS = 120_000
const POLL_MS = 250
const PREFIX = 'signet-node-'
const SUPPORT = path.join(import.meta.dirname, 'kubernetes')

/** `images`: an archive to load while everything else starts. */
export async function startNode(options: { images?: string } = {}): Promise<TestNode> {
  const cniPlugins = await checkNodeRequirements()
  const binaries = await findBinaries()
  const helm = await ensureHelm()
  await removeLeftovers(PREFIX)
  const folder = await mkdtemp(path.join(tmpdir(), PREFIX))
  const keeper = startKeeper(folder, REMOVE_CGROUPS)
  try {
    const paths = nodePaths(folder)
    const { holder, enter } = await createNamespaces(folder, NODE.address)
    // All others live in the holder's process namespace and end with it.
    keeper.watch([holder.pid])
    await writeOwner(folder, keeper.pid, holder.pid)
    const cgroup = path.basename(folder)
    await createCgroups(cgroup)
    await writeNodeFiles(folder, { runc: binaries.runc, cniPlugins, cgroup, pauseImage: NODE_IMAGES.pause })
    const inside: Inside = (command, args, input) =>
      runTool(enter[0] ?? '', [...enter.slice(1), command, ...args], {
        env: { HOME: folder, KUBECONFIG: paths.kubeconfig('admin') },
        ...(input === undefined ? {} : { input }),
      })
    const launch = launcher(folder, enter, binaries)
    const containerd = await launch('containerd', binaries.containerd, ['--config', paths.containerd])
    const loadImages = (archive: string): Promise<void> => importImages(folder, binaries, inside, archive)
    const loadFirst = async (): Promise<void> => {
      await waitForContainerd(folder, containerd, binaries, inside)
      if (options.images !== undefined) await loadImages(options.images)
    }
    const loading = loadFirst()
    loading.catch(() => undefined)
    const relay = await launch('relay', process.execPath, [path.join(SUPPORT, 'relay-loop.ts'), paths.relay])
    const connect: Connect = (host, port) => connectThrough(paths.relay, host, port)
    const plane = await startControlPlane({
      folder: path.join(folder, 'control-plane'),
      binaries,
      address: NODE.address,
      users: Object.values(COMPONENT_USERS),
      prefix: enter,
      extraArgs: ['--kubelet-preferred-address-types=InternalIP'],
      connect,
    })
    await loading
    const programs = [containerd, relay, ...(await startComponents(folder, plane, binaries, launch))]

    const wires: Wire[] = []
    const wire: TestNode['wire'] = ({ ca, host } = {}) => {
      const made = createWire({
        connect: (name, port) => connect(host ?? name, port),
        ...(ca === undefined ? {} : { ca }),
      })
      wires.push(made)
      return made
    }
    const kubectl: TestNode['kubectl'] = (args, stdin) => inside(binaries.kubectl, args, stdin)
    const describe = (): Promise<string> => describeCluster(kubectl, programs)
    const node: TestNode = {
      ...createObjects(plane.client),
      url: plane.url,
      kubeconfig: paths.kubeconfig('admin'),
      token: plane.token,
      ca: plane.ca,
      request: plane.client.request,
      kubectl,
      helm: (args) => inside(helm, args),
      http: wire().send,
      wire,
      run: inside,
      loadImages,
      describe,
      waitFor: (what, ask, timeoutMs = 60_000) => waitFor(what, ask, timeoutMs, describe),
      async stop() {
        for (const one of wires) one.close()
        plane.client.close()
        await holder.kill()
        await Promise.all([...programs, ...plane.programs].map((program) => program.kill()))
        await keeper.close()
      },
    }
    await node.waitFor('the node is ready', () => isReady(node), START_TIMEOUT_MS)
    return node
  } catch (error) {
    await keeper.close()
    throw error
  }
}

async function findBinaries(): Promise<Binaries> {
  const found = new Map<string, string>()
  for (const name of KUBERNETES_TOOLS) found.set(name, await ensureKubernetesTool(name))
  return Object.fromEntries(found) as Binaries
}

async function isReady(node: TestNode): Promise<boolean> {
  const answer = await node.request('GET', `/api/v1/nodes/${NODE.name}`)
  type Node = { status?: { conditions?: { type: string; status: string }[] } }
  const { conditions = [] } = answer.json<Node>().status ?? {}
  return conditions.some(({ type, status }) => type === 'Ready' && status === 'True')
}

async function waitFor<T>(
  what: string,
  ask: () => Promise<T | false | null | undefined>,
  timeoutMs: number,
  describe: () => Promise<string>,
): Promise<T> {
  let problem = ''
  for (const deadline = Date.now() + timeoutMs; Date.now() < deadline; await sleep(POLL_MS)) {
    try {
      const answer = await ask()
      if (answer !== false && answer !== null && answer !== undefined) return answer
      problem = ''
    } catch (error) {
      problem = `; at last: ${error instanceof Error ? error.message : String(error)}`
    }
  }
  throw new Error(`not within ${timeoutMs} ms: ${what}${problem}\n${await describe()}`)
}
