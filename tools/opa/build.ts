import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { access, constants, mkdir, mkdtemp, open, readFile, rename, rm, stat, utimes } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { SignetError } from '#core/error/signet-error.ts'

const MODULE_DIRECTORY = dirname(fileURLToPath(import.meta.url))
const GO_MINIMUM = [1, 26] as const
/** `opa_wasm` adds OPA's own (pure Go) wasm runtime, so that OPA can check what our host computes. */
const BUILD_ARGUMENTS = ['build', '-trimpath', '-tags', 'opa_wasm']
const PACKAGE = 'github.com/open-policy-agent/opa'
const GO_MISSING =
  'Go 1.26 or newer is needed to build OPA; install it from your distribution or go.dev/dl, or set SIGNET_OPA=/path/to/opa'
const LOCK_REFRESH_MS = 2_000
const LOCK_STALE_MS = 30_000
const BUILD_TIMEOUT_MS = 30 * 60_000

export interface EnsureOpaOptions {
  /** Progress, one line a call, without line feed. Default: standard error. */
  onProgress?: (line: string) => void
  env?: NodeJS.ProcessEnv
}

/**
 * The path of the pinned OPA binary. `SIGNET_OPA` names one; else it is built from `tools/opa/go.mod` once into
 * `${SIGNET_CACHE_DIR:-${XDG_CACHE_HOME:-~/.cache}/signet}`, keyed by go.sum, Go version and platform. Processes that ask
 * at the same time wait for one build. Throws OPA_UNAVAILABLE.
 */
export async function ensureOpa(options: EnsureOpaOptions = {}): Promise<string> {
  const env = options.env ?? process.env
  const onProgress = options.onProgress ?? ((line) => process.stderr.write(`${line}\n`))
  if (env.SIGNET_OPA) {
    if (!(await isExecutable(env.SIGNET_OPA))) {
      throw new SignetError('OPA_UNAVAILABLE', `SIGNET_OPA names ${env.SIGNET_OPA}, which is not an executable file`)
    }
    return env.SIGNET_OPA
  }
  const goVersion = await readGoVersion(env)
  const directory = join(cacheDirectory(env), 'opa', await cacheKey(goVersion))
  const binary = join(directory, 'opa')
  if (await isExecutable(binary)) return binary
  await mkdir(directory, { recursive: true })
  const release = await acquireLock(join(directory, 'lock'), binary, onProgress)
  if (release === null) return binary
  try {
    if (!(await isExecutable(binary))) await build(directory, binary, goVersion, env, onProgress)
    return binary
  } finally {
    await release()
  }
}

function cacheDirectory(env: NodeJS.ProcessEnv): string {
  return env.SIGNET_CACHE_DIR || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'signet')
}

async function cacheKey(goVersion: string): Promise<string> {
  const hash = createHash('sha256')
  for (const name of ['go.mod', 'go.sum']) hash.update(await readFile(join(MODULE_DIRECTORY, name))).update('\0')
  hash.update([goVersion, process.platform, process.arch, ...BUILD_ARGUMENTS].join('\0'))
  return hash.digest('hex').slice(0, 24)
}

async function readGoVersion(env: NodeJS.ProcessEnv): Promise<string> {
  let version: string
  try {
    version = (await run('go', ['env', 'GOVERSION'], env, 30_000, () => {})).trim()
  } catch (cause) {
    throw new SignetError('OPA_UNAVAILABLE', GO_MISSING, { cause })
  }
  const match = /^go(\d+)\.(\d+)/.exec(version)
  const [major, minor] = [Number(match?.[1] ?? 0), Number(match?.[2] ?? 0)]
  if (major < GO_MINIMUM[0] || (major === GO_MINIMUM[0] && minor < GO_MINIMUM[1])) {
    throw new SignetError('OPA_UNAVAILABLE', `${GO_MISSING} (found ${version})`)
  }
  return version
}

async function build(
  directory: string,
  binary: string,
  goVersion: string,
  env: NodeJS.ProcessEnv,
  onProgress: (line: string) => void,
): Promise<void> {
  onProgress(`building OPA with ${goVersion} (once; 1 to 3 minutes on a cold machine)`)
  const startedAt = Date.now()
  const temporary = await mkdtemp(join(directory, 'build-'))
  const seconds = (): number => Math.round((Date.now() - startedAt) / 1000)
  const ticker = setInterval(() => onProgress(`building OPA: ${seconds()} s`), 15_000)
  ticker.unref()
  try {
    const output = join(temporary, 'opa')
    const buildEnv = { ...env, CGO_ENABLED: '0', GOFLAGS: '-mod=readonly', GOWORK: 'off' }
    await run('go', [...BUILD_ARGUMENTS, '-o', output, PACKAGE], buildEnv, BUILD_TIMEOUT_MS, (line) => {
      if (line.startsWith('go: downloading')) onProgress(`building OPA: ${line.slice(4)}`)
    })
    // Only a whole binary ever gets the final name.
    await rename(output, binary)
    onProgress(`built OPA in ${seconds()} s`)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new SignetError('OPA_UNAVAILABLE', `OPA could not be built with ${goVersion}: ${reason}`, { cause })
  } finally {
    clearInterval(ticker)
    await rm(temporary, { recursive: true, force: true })
  }
}

/**
 * A lock file whose holder refreshes its time; one that has not been refreshed for 30 s was left by a process that died.
 * Resolves to the release function, or to null when another process has made the binary meanwhile.
 */
async function acquireLock(
  path: string,
  binary: string,
  onProgress: (line: string) => void,
): Promise<(() => Promise<void>) | null> {
  let told = false
  for (;;) {
    try {
      const handle = await open(path, 'wx')
      await handle.writeFile(String(process.pid))
      await handle.close()
      const refresher = setInterval(() => {
        const now = new Date()
        utimes(path, now, now).catch(() => {})
      }, LOCK_REFRESH_MS)
      refresher.unref()
      return async () => {
        clearInterval(refresher)
        await rm(path, { force: true })
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    if (await isExecutable(binary)) return null
    const age = await stat(path).then(
      (s) => Date.now() - s.mtimeMs,
      () => 0,
    )
    if (age > LOCK_STALE_MS) {
      // Renaming decides between several that find it stale: one wins, the others find it gone.
      const stale = `${path}.${process.pid}.stale`
      await rename(path, stale).then(
        () => rm(stale, { force: true }),
        () => {},
      )
      continue
    }
    if (!told) onProgress('waiting for another process that is building OPA')
    told = true
    await sleep(500)
  }
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
}

function run(
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  timeoutMs: number,
  onLine: (line: string) => void,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: MODULE_DIRECTORY,
      env,
      timeout: timeoutMs,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    const tail: string[] = []
    let partial = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (output += chunk))
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (partial + chunk).split('\n')
      partial = lines.pop() ?? ''
      for (const line of lines) {
        onLine(line)
        tail.push(line)
        if (tail.length > 20) tail.shift()
      }
    })
    child.once('error', reject)
    child.once('close', (code, signal) => {
      if (code === 0) resolve(output)
      else
        reject(new Error(`${command} ${args[0]} ended with ${signal ?? code}: ${[...tail, partial].join(' ').trim()}`))
    })
  })
}

// `node tools/opa/build.ts` prints the path.
if (import.meta.main) process.stdout.write(`${await ensureOpa()}\n`)
