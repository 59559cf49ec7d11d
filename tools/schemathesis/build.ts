import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { cacheDirectory, isExecutable } from '#tools/go/build.ts'
import { acquireLock } from '#tools/go/lock.ts'

const REQUIREMENTS = path.join(import.meta.dirname, 'requirements.txt')
const PYTHON_MINIMUM = [3, 11] as const
const INSTALL_TIMEOUT_MS = 15 * 60_000
const MISSING = `Python ${PYTHON_MINIMUM.join('.')} or newer with venv is needed to fuzz the API (Debian: apt-get install python3 python3-venv), or set SIGNET_SCHEMATHESIS=/path/to/st`

export type EnsureSchemathesisOptions = {
  /** Progress, one line a call, without line feed. Default: standard error. */
  readonly onProgress?: (line: string) => void
  readonly env?: NodeJS.ProcessEnv
}

/**
 * The path of the pinned schemathesis command. `SIGNET_SCHEMATHESIS` names one; else the packages of `requirements.txt`, each checked
 * against its hash, are installed once into a virtual environment in the cache, keyed by that file and the Python that made it. Processes
 * that ask at the same time wait for one installation. To move to a newer version: pip-compile --generate-hashes on `requirements.in`.
 * @throws an Error that says in one line what is missing
 */
export async function ensureSchemathesis(options: EnsureSchemathesisOptions = {}): Promise<string> {
  const env = options.env ?? process.env
  const onProgress = options.onProgress ?? ((line: string) => process.stderr.write(`${line}\n`))
  const named = env['SIGNET_SCHEMATHESIS']
  if (named) {
    if (await isExecutable(named)) return named
    throw new Error(`SIGNET_SCHEMATHESIS names ${named}, which is not an executable file`)
  }
  const python = await readPython(env)
  const key = createHash('sha256')
    .update(await readFile(REQUIREMENTS))
    .update(python)
  const directory = path.join(cacheDirectory(env), 'schemathesis', key.digest('hex').slice(0, 24))
  const command = path.join(directory, 'venv', 'bin', 'st')
  // A virtual environment cannot be moved, so that what says that it is whole is a file beside it.
  const marker = path.join(directory, 'complete')
  const isComplete = async (): Promise<boolean> =>
    readFile(marker).then(
      () => isExecutable(command),
      () => false,
    )
  if (await isComplete()) return command
  await mkdir(directory, { recursive: true })
  const release = await acquireLock(path.join(directory, 'lock'), {
    isDone: isComplete,
    onWait: () => onProgress('waiting for another process that is installing schemathesis'),
  })
  if (release === null) return command
  try {
    if (!(await isComplete())) await install(path.join(directory, 'venv'), env, onProgress)
    await writeFile(marker, '')
    return command
  } finally {
    await release()
  }
}

async function install(venv: string, env: NodeJS.ProcessEnv, onProgress: (line: string) => void): Promise<void> {
  onProgress('installing schemathesis with pip (once; half a minute)')
  const startedAt = Date.now()
  const seconds = (): number => Math.round((Date.now() - startedAt) / 1_000)
  const ticker = setInterval(() => onProgress(`installing schemathesis: ${seconds()} s`), 15_000)
  ticker.unref()
  try {
    await run('python3', ['-m', 'venv', '--clear', venv], env).catch((cause: unknown) => {
      throw new Error(MISSING, { cause })
    })
    const flags = ['--quiet', '--no-input', '--disable-pip-version-check', '--require-hashes', '--only-binary', ':all:']
    await run(path.join(venv, 'bin', 'pip'), ['install', ...flags, '--requirement', REQUIREMENTS], env)
    onProgress(`installed schemathesis in ${seconds()} s`)
  } catch (cause) {
    await rm(venv, { recursive: true, force: true })
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(reason === MISSING ? reason : `schemathesis could not be installed: ${reason}`, { cause })
  } finally {
    clearInterval(ticker)
  }
}

/** Version and place of the Python that is there. */
async function readPython(env: NodeJS.ProcessEnv): Promise<string> {
  const script = 'import ensurepip, sys, venv; print(sys.version_info.major, sys.version_info.minor, sys.executable)'
  const found = await run('python3', ['-c', script], env).catch((cause: unknown) => {
    throw new Error(MISSING, { cause })
  })
  const [major = 0, minor = 0] = found.split(' ').map(Number)
  if (major < PYTHON_MINIMUM[0] || (major === PYTHON_MINIMUM[0] && minor < PYTHON_MINIMUM[1]))
    throw new Error(`${MISSING} (found ${major}.${minor})`)
  return found
}

function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env, timeout: INSTALL_TIMEOUT_MS, stdio: ['ignore', 'pipe', 'pipe'] })
    let [output, errors] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (output += chunk))
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (errors = (errors + chunk).slice(-2_000)))
    child.once('error', reject)
    child.once('close', (code, signal) => {
      if (code === 0) resolve(output.trim())
      else
        reject(
          new Error(`${path.basename(command)} ended with ${signal ?? code}: ${errors.trim().replaceAll('\n', ' ')}`),
        )
    })
  })
}

// `node tools/schemathesis/build.ts` prints the path.
if (import.meta.main) process.stdout.write(`${await ensureSchemathesis()}\n`)
