import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { access, constants, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { homedir, setPriority } from 'node:os'
import { join } from 'node:path'
import { acquireLock } from './lock.ts'

const GO_MINIMUM = [1, 26] as const
const BUILD_TIMEOUT_MS = 40 * 60_000

/** A program that is built from a pinned Go module once. */
export type GoTool = {
  /** What progress lines call it. */
  readonly label: string
  /** File name of the binary, and folder in the cache. */
  readonly name: string
  readonly cacheFolder: string
  /** Where `go.mod` and `go.sum` are. */
  readonly moduleDirectory: string
  readonly package: string
  /** `build` and what follows it, but for `-o` and the package. */
  readonly arguments: readonly string[]
  readonly cgo?: boolean
  /** How long it takes, for the first progress line: `1 to 3 minutes`. */
  readonly duration: string
  /** What to do instead of installing Go: `set SIGNET_OPA=/path/to/opa`. */
  readonly otherwise: string
  /** Makes the error to throw. */
  readonly fail: (message: string, cause?: unknown) => Error
}

export type BuildOptions = {
  readonly env: NodeJS.ProcessEnv
  readonly onProgress: (line: string) => void
  /** Leave the processor to others that want it. */
  readonly lowPriority?: boolean
}

/**
 * The path of the tool's binary in `${SIGNET_CACHE_DIR:-${XDG_CACHE_HOME:-~/.cache}/signet}`, keyed by go.mod, go.sum, Go version,
 * platform and arguments; built if it is not there. Processes that ask at the same time wait for one build.
 */
export async function ensureGoTool(tool: GoTool, options: BuildOptions): Promise<string> {
  const goVersion = await readGoVersion(tool, options.env)
  const directory = join(cacheDirectory(options.env), tool.cacheFolder, await cacheKey(tool, goVersion))
  const binary = join(directory, tool.name)
  if (await isExecutable(binary)) return binary
  await mkdir(directory, { recursive: true })
  const release = await acquireLock(join(directory, 'lock'), {
    isDone: () => isExecutable(binary),
    onWait: () => options.onProgress(`waiting for another process that is building ${tool.label}`),
  })
  if (release === null) return binary
  try {
    if (!(await isExecutable(binary))) await build(tool, directory, binary, goVersion, options)
    return binary
  } finally {
    await release()
  }
}

/** Where everything that is made once is kept, outside of the tree. */
export function cacheDirectory(env: NodeJS.ProcessEnv): string {
  return env.SIGNET_CACHE_DIR || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'signet')
}

export async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
}

async function cacheKey(tool: GoTool, goVersion: string): Promise<string> {
  const hash = createHash('sha256')
  for (const name of ['go.mod', 'go.sum']) hash.update(await readFile(join(tool.moduleDirectory, name))).update('\0')
  hash.update([goVersion, process.platform, process.arch, ...tool.arguments].join('\0'))
  return hash.digest('hex').slice(0, 24)
}

async function readGoVersion(tool: GoTool, env: NodeJS.ProcessEnv): Promise<string> {
  const missing = `Go ${GO_MINIMUM.join('.')} or newer is needed to build ${tool.label}; install it from your distribution or go.dev/dl, or ${tool.otherwise}`
  let version: string
  try {
    version = (await run(tool, ['env', 'GOVERSION'], { env, timeoutMs: 30_000, onLine: () => {} })).trim()
  } catch (cause) {
    throw tool.fail(missing, cause)
  }
  const match = /^go(\d+)\.(\d+)/.exec(version)
  const [major, minor] = [Number(match?.[1] ?? 0), Number(match?.[2] ?? 0)]
  if (major < GO_MINIMUM[0] || (major === GO_MINIMUM[0] && minor < GO_MINIMUM[1])) {
    throw tool.fail(`${missing} (found ${version})`)
  }
  return version
}

async function build(
  tool: GoTool,
  directory: string,
  binary: string,
  goVersion: string,
  { env, onProgress, lowPriority = false }: BuildOptions,
): Promise<void> {
  onProgress(`building ${tool.label} with ${goVersion} (once; ${tool.duration} on a cold machine)`)
  const startedAt = Date.now()
  const temporary = await mkdtemp(join(directory, 'build-'))
  const seconds = (): number => Math.round((Date.now() - startedAt) / 1000)
  const ticker = setInterval(() => onProgress(`building ${tool.label}: ${seconds()} s`), 15_000)
  ticker.unref()
  try {
    const output = join(temporary, tool.name)
    const buildEnv = { ...env, CGO_ENABLED: tool.cgo === true ? '1' : '0', GOFLAGS: '-mod=readonly', GOWORK: 'off' }
    await run(tool, [...tool.arguments, '-o', output, tool.package], {
      env: buildEnv,
      timeoutMs: BUILD_TIMEOUT_MS,
      lowPriority,
      onLine: (line) => {
        if (line.startsWith('go: downloading')) onProgress(`building ${tool.label}: ${line.slice(4)}`)
      },
    })
    // Only a whole binary ever gets the final name.
    await rename(output, binary)
    onProgress(`built ${tool.label} in ${seconds()} s`)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw tool.fail(`${tool.label} could not be built with ${goVersion}: ${reason}`, cause)
  } finally {
    clearInterval(ticker)
    await rm(temporary, { recursive: true, force: true })
  }
}

function run(
  tool: GoTool,
  args: readonly string[],
  options: { env: NodeJS.ProcessEnv; timeoutMs: number; onLine: (line: string) => void; lowPriority?: boolean },
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('go', args, {
      cwd: tool.moduleDirectory,
      env: options.env,
      timeout: options.timeoutMs,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    // The compilers that it starts inherit this.
    if (options.lowPriority === true && child.pid !== undefined) setPriority(child.pid, 10)
    let output = ''
    const tail: string[] = []
    let partial = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (output += chunk))
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (partial + chunk).split('\n')
      partial = lines.pop() ?? ''
      for (const line of lines) {
        options.onLine(line)
        tail.push(line)
        if (tail.length > 20) tail.shift()
      }
    })
    child.once('error', reject)
    child.once('close', (code, signal) => {
      if (code === 0) resolve(output)
      else reject(new Error(`go ${args[0]} ended with ${signal ?? code}: ${[...tail, partial].join(' ').trim()}`))
    })
  })
}
