import { mkdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { runTool } from '#tools/kubernetes/run-tool.ts'
import { startProgram, type Program } from './child.ts'
import { childrenOf } from './process-tree.ts'

/** Namespaces of their own for network, mounts and processes: when the first process in them ends, all end, and every mount is gone. */
export type Namespaces = {
  readonly holder: Program
  /** What to put before a command that is to run in them. */
  readonly enter: readonly string[]
}

// $1: the node's address; $2: a file for its resolver. A bridge carries it, for want of dummy devices in some kernels. What the programs write to fixed places of the
// machine goes to memory.
const SET_UP = `
ip link set lo up
ip link add node0 type bridge
ip address add "$1/24" dev node0
ip link set node0 up
ip route add default dev node0
echo 1 > /proc/sys/net/ipv4/ip_forward
printf 'nameserver %s\\nsearch svc.cluster.local cluster.local\\noptions ndots:5\\n' "$1" > "$2"
mount --bind "$2" /etc/resolv.conf
for place in /var/lib/cni /var/lib/kubelet /var/log /run/containerd; do
  mkdir -p "$place"
  mount -t tmpfs tmpfs "$place"
done
`

/** For the keeper, with the node's folder as $1: empty control groups stay behind when all else is gone. */
export const REMOVE_CGROUPS = `
for i in 1 2 3 4 5 6 7 8 9 10; do
  find /sys/fs/cgroup -depth -type d -path "*/$(basename "$1")*" -exec rmdir {} + 2>/dev/null
  find /sys/fs/cgroup -maxdepth 2 -name "$(basename "$1")" 2>/dev/null | grep -q . || break
  sleep 0.3
done
`

/** The kubelet wants its root control group to be there, in every hierarchy. */
export async function createCgroups(name: string): Promise<void> {
  const mounts = await readFile('/proc/self/mounts', 'utf8')
  const roots = [...mounts.matchAll(/^\S+ (\S+) cgroup2? /gm)].map(([, root = '']) => root)
  if (roots.length === 0) throw new Error('no control groups are mounted on this machine')
  for (const root of roots) await mkdir(path.join(root, name), { recursive: true })
}

export async function createNamespaces(folder: string, address: string): Promise<Namespaces> {
  const holder = await startProgram({
    name: 'namespaces',
    command: 'unshare',
    args: [
      '--net',
      '--mount',
      '--pid',
      '--fork',
      '--kill-child=SIGKILL',
      '--mount-proc',
      '--propagation',
      'private',
      'sleep',
      'infinity',
    ],
    logFile: path.join(folder, 'namespaces.log'),
  })
  for (const deadline = Date.now() + 10_000; ;) {
    if (holder.ended()) throw new Error(`no namespaces could be made (root is needed): ${await holder.output()}`)
    const [first] = childrenOf(holder.pid)
    // Its own /proc is mounted before it becomes `sleep`.
    if (first !== undefined && (await readFile(`/proc/${first}/comm`, 'utf8').catch(() => '')).trim() === 'sleep') {
      const enter = ['nsenter', '--target', String(first), '--net', '--mount', '--pid', '--']
      await runTool(enter[0] ?? '', [
        ...enter.slice(1),
        'sh',
        '-ec',
        SET_UP,
        'set-up',
        address,
        path.join(folder, 'resolv.conf'),
      ])
      return { holder, enter }
    }
    if (Date.now() > deadline) {
      await holder.kill()
      throw new Error('the namespaces were not ready within 10 s')
    }
    await sleep(20)
  }
}
