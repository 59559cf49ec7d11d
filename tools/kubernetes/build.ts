import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { ensureGoTool, isExecutable, type GoTool } from '#tools/go/build.ts'

const MODULES = path.join(import.meta.dirname, 'modules')

type Recipe = Pick<GoTool, 'package' | 'duration'> & {
  readonly module: 'etcd' | 'kubernetes' | 'containerd' | 'runc'
  readonly tags?: string
  readonly cgo?: boolean
}

const CONTAINERD = 'github.com/containerd/containerd/v2/cmd'
const KUBERNETES = 'k8s.io/kubernetes/cmd'

// In the order in which they are wanted: the first three are all that tests of the API server need.
const RECIPES = {
  etcd: { module: 'etcd', package: 'go.etcd.io/etcd/server/v3', duration: 'about a minute' },
  'kube-apiserver': { module: 'kubernetes', package: `${KUBERNETES}/kube-apiserver`, duration: '5 to 8 minutes' },
  kubectl: { module: 'kubernetes', package: `${KUBERNETES}/kubectl`, duration: '1 to 2 minutes' },
  containerd: { module: 'containerd', package: `${CONTAINERD}/containerd`, duration: '2 to 3 minutes' },
  'containerd-shim-runc-v2': {
    module: 'containerd',
    package: `${CONTAINERD}/containerd-shim-runc-v2`,
    duration: 'seconds',
  },
  ctr: { module: 'containerd', package: `${CONTAINERD}/ctr`, duration: 'seconds' },
  // Without this tag runc refuses every pod that has a seccomp profile.
  runc: { module: 'runc', package: 'github.com/opencontainers/runc', duration: 'seconds', tags: 'seccomp', cgo: true },
  kubelet: { module: 'kubernetes', package: `${KUBERNETES}/kubelet`, duration: '4 to 7 minutes' },
  'kube-controller-manager': {
    module: 'kubernetes',
    package: `${KUBERNETES}/kube-controller-manager`,
    duration: '2 to 3 minutes',
  },
  'kube-scheduler': { module: 'kubernetes', package: `${KUBERNETES}/kube-scheduler`, duration: 'seconds' },
  'kube-proxy': { module: 'kubernetes', package: `${KUBERNETES}/kube-proxy`, duration: 'seconds' },
} as const satisfies Record<string, Recipe>

export type KubernetesTool = keyof typeof RECIPES
/** All that a node consists of, in the order to build them in. */
export const KUBERNETES_TOOLS = Object.keys(RECIPES) as readonly KubernetesTool[]
/** What `startApiServer` needs. */
export const API_SERVER_TOOLS = KUBERNETES_TOOLS.slice(0, 3)

export type EnsureOptions = {
  /** Progress, one line a call, without line feed. Default: standard error. */
  readonly onProgress?: (line: string) => void
  readonly env?: NodeJS.ProcessEnv
  readonly lowPriority?: boolean
}

// One at a time in a process: each build uses every core, and linking takes gigabytes.
let previous: Promise<unknown> = Promise.resolve()

/**
 * The path of a pinned Kubernetes tool, built from `modules/` once into the cache (see `ensureGoTool`). `SIGNET_KUBERNETES_BIN` names a
 * folder with all of them instead. @throws an Error that says in one line what is missing
 */
export async function ensureKubernetesTool(name: KubernetesTool, options: EnsureOptions = {}): Promise<string> {
  const env = options.env ?? process.env
  if (env.SIGNET_KUBERNETES_BIN) {
    const binary = path.join(env.SIGNET_KUBERNETES_BIN, name)
    if (await isExecutable(binary)) return binary
    throw new Error(`SIGNET_KUBERNETES_BIN names ${env.SIGNET_KUBERNETES_BIN}, which holds no executable file ${name}`)
  }
  const onProgress = options.onProgress ?? ((line: string) => process.stderr.write(`${line}\n`))
  const mine = previous.then(() => {
    if (name === 'runc') requireSeccomp(env)
    return ensureGoTool(toolFor(name), { env, onProgress, lowPriority: options.lowPriority ?? false })
  })
  previous = mine.catch(() => undefined)
  return mine
}

function toolFor(name: KubernetesTool): GoTool {
  const recipe: Recipe = RECIPES[name]
  const moduleDirectory = path.join(MODULES, recipe.module)
  // A name and a line table are all that a test needs of them; without symbols they link faster.
  const flags = ['-s', '-w', ...(recipe.module === 'kubernetes' ? kubernetesVersionFlags(moduleDirectory) : [])]
  return {
    label: name,
    name,
    cacheFolder: path.join('kubernetes', name),
    moduleDirectory,
    package: recipe.package,
    arguments: [
      'build',
      '-trimpath',
      ...(recipe.tags === undefined ? [] : ['-tags', recipe.tags]),
      '-ldflags',
      flags.join(' '),
    ],
    cgo: recipe.cgo ?? false,
    duration: recipe.duration,
    otherwise: 'set SIGNET_KUBERNETES_BIN=/path/to/binaries',
    fail: (message, cause) => new Error(message, { cause }),
  }
}

/** Without these the API server reports a version that clients cannot read. */
function kubernetesVersionFlags(moduleDirectory: string): string[] {
  const goMod = readFileSync(path.join(moduleDirectory, 'go.mod'), 'utf8')
  const [, version, major, minor] = /\bk8s\.io\/kubernetes (v(\d+)\.(\d+)\.\d+)/.exec(goMod) ?? []
  if (version === undefined) throw new Error('tools/kubernetes/modules/kubernetes/go.mod requires no k8s.io/kubernetes')
  return Object.entries({
    gitVersion: version,
    gitMajor: major,
    gitMinor: minor,
    gitTreeState: 'clean',
  }).map(([name, value]) => `-X k8s.io/component-base/version.${name}=${value}`)
}

function requireSeccomp(env: NodeJS.ProcessEnv): void {
  if (spawnSync('pkg-config', ['--exists', 'libseccomp'], { env }).status === 0) return
  throw new Error(
    'a C compiler, pkg-config and the libseccomp headers are needed to build runc; install them (Debian: apt-get install gcc pkg-config libseccomp-dev)',
  )
}

// `node tools/kubernetes/build.ts [NAME…]` builds what is missing and prints the paths.
if (import.meta.main) {
  const wanted = process.argv.slice(2)
  const unknown = wanted.filter((name) => !(name in RECIPES))
  if (unknown.length > 0) throw new Error(`no tool ${unknown.join(', ')}; there are ${KUBERNETES_TOOLS.join(', ')}`)
  for (const name of wanted.length === 0 ? KUBERNETES_TOOLS : (wanted as KubernetesTool[])) {
    process.stdout.write(`${await ensureKubernetesTool(name)}\n`)
  }
}
