import { access } from 'node:fs/promises'
import path from 'node:path'

const PROGRAMS = {
  unshare: 'util-linux',
  nsenter: 'util-linux',
  ip: 'iproute2',
  iptables: 'iptables',
  buildah: 'buildah',
  mmdebstrap: 'mmdebstrap',
} as const
const CNI_FOLDERS = ['/usr/lib/cni', '/opt/cni/bin']
const CNI_PLUGINS = ['ptp', 'host-local', 'loopback']

/** Checks that this machine can run a node. @returns the folder of the CNI plugins @throws an Error that names all that is missing */
export async function checkNodeRequirements(): Promise<string> {
  if (process.platform !== 'linux') throw new Error('a node under test runs on Linux only')
  if (process.getuid?.() !== 0) throw new Error('a node under test needs root')
  const packages = new Set<string>()
  for (const [program, name] of Object.entries(PROGRAMS)) if (!(await isInstalled(program))) packages.add(name)
  let plugins: string | undefined
  for (const folder of CNI_FOLDERS) {
    const all = await Promise.all(CNI_PLUGINS.map((name) => canRead(path.join(folder, name))))
    if (all.every(Boolean)) plugins ??= folder
  }
  if (plugins === undefined) packages.add('containernetworking-plugins')
  if (packages.size > 0 || plugins === undefined) {
    throw new Error(`a node under test needs more; install it (Debian: apt-get install ${[...packages].join(' ')})`)
  }
  return plugins
}

async function isInstalled(program: string): Promise<boolean> {
  const folders = [...(process.env['PATH'] ?? '').split(path.delimiter), '/usr/sbin', '/sbin']
  const found = await Promise.all(folders.map((folder) => canRead(path.join(folder, program))))
  return found.some(Boolean)
}

function canRead(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  )
}
