import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { access, mkdir, readFile, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { cacheDirectory } from '#tools/go/build.ts'
import { acquireLock } from '#tools/go/lock.ts'

const POM = path.join(import.meta.dirname, 'pom.xml')
const JAVA_MINIMUM = 17
const BUILD_TIMEOUT_MS = 15 * 60_000

export type EnsureKafkaOptions = {
  /** Progress, one line a call, without line feed. Default: standard error. */
  readonly onProgress?: (line: string) => void
  readonly env?: NodeJS.ProcessEnv
}

/**
 * The folder with the jars of the pinned Kafka broker (`pom.xml`), fetched by Maven once into the cache. `SIGNET_KAFKA_JARS` names one
 * instead. Processes that ask at the same time wait for one. @throws an Error that says in one line what is missing
 */
export async function ensureKafka(options: EnsureKafkaOptions = {}): Promise<string> {
  const env = options.env ?? process.env
  const onProgress = options.onProgress ?? ((line: string) => process.stderr.write(`${line}\n`))
  requireJava(env)
  const named = env['SIGNET_KAFKA_JARS']
  if (named !== undefined && named !== '') {
    if (await exists(named)) return named
    throw new Error(`SIGNET_KAFKA_JARS names ${named}, which is not there`)
  }
  const key = createHash('sha256')
    .update(await readFile(POM))
    .digest('hex')
    .slice(0, 24)
  const folder = path.join(cacheDirectory(env), 'kafka', key)
  const jars = path.join(folder, 'jars')
  if (await exists(jars)) return jars
  await mkdir(folder, { recursive: true })
  const release = await acquireLock(path.join(folder, 'lock'), {
    isDone: () => exists(jars),
    onWait: () => onProgress('waiting for another process that is fetching Kafka'),
  })
  if (release === null) return jars
  try {
    if (!(await exists(jars))) await fetchJars(folder, jars, env, onProgress)
    return jars
  } finally {
    await release()
  }
}

async function fetchJars(
  folder: string,
  jars: string,
  env: NodeJS.ProcessEnv,
  onProgress: (line: string) => void,
): Promise<void> {
  if (spawnSync('mvn', ['-v'], { env }).status !== 0) {
    throw new Error(
      'Maven is needed to fetch the Kafka broker; install it (Debian: apt-get install maven), or set SIGNET_KAFKA_JARS=/path/to/jars',
    )
  }
  onProgress('fetching the Kafka broker with Maven (once, about a minute)')
  const startedAt = Date.now()
  const partial = path.join(folder, 'partial')
  await rm(partial, { recursive: true, force: true })
  const output = await run(
    'mvn',
    [
      '-B',
      '-q',
      '-f',
      POM,
      'org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies',
      `-DoutputDirectory=${partial}`,
      '-DincludeScope=runtime',
    ],
    env,
  )
  if (!(await exists(partial))) throw new Error(`Maven fetched nothing: ${output.trim().slice(-500)}`)
  await rename(partial, jars)
  onProgress(`fetched the Kafka broker in ${Math.round((Date.now() - startedAt) / 1_000)} s`)
}

function run(program: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'], timeout: BUILD_TIMEOUT_MS })
    let output = ''
    const keep = (chunk: Buffer): void => {
      output = (output + chunk.toString()).slice(-16_384)
    }
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
    child.once('error', reject)
    child.once('close', (status) => {
      if (status === 0) resolve(output)
      else reject(new Error(`Maven could not fetch the Kafka broker: ${output.trim().slice(-500)}`))
    })
  })
}

function requireJava(env: NodeJS.ProcessEnv): void {
  const { status, stderr } = spawnSync('java', ['-version'], { env, encoding: 'utf8' })
  const version = Number(/version "(\d+)/.exec(stderr ?? '')?.[1] ?? 0)
  if (status !== 0 || version < JAVA_MINIMUM) {
    const found = status === 0 ? `found ${version}` : 'none was found'
    throw new Error(
      `Java ${JAVA_MINIMUM} or later is needed to run the Kafka broker (${found}); install it (Debian: apt-get install openjdk-17-jre-headless)`,
    )
  }
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  )
}

// `node tools/kafka/build.ts` prints the folder.
if (import.meta.main) process.stdout.write(`${await ensureKafka()}\n`)
