import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Admin } from '@platformatic/kafka'
import { ensureKafka } from '#tools/kafka/build.ts'
import { freePort } from './real-services.ts'

/** A real Kafka broker (KRaft, one node) of the test's own, about 5 s to start. */
export type TestBroker = {
  readonly bootstrap: string
  /** Creates topics. */
  createTopics(
    topics: readonly string[],
    options?: { partitions?: number; config?: Record<string, string> },
  ): Promise<void>
  kill(): Promise<void>
  /** Stops it where it stands (SIGSTOP), and lets it go on: a broker that does not answer. */
  freeze(): void
  thaw(): void
  /** On the same folder and port, after `kill`. */
  restart(): Promise<void>
  stop(): Promise<void>
}

const START_DEADLINE_MS = 90_000

export async function startBroker(): Promise<TestBroker> {
  const jars = await ensureKafka()
  const dir = await mkdtemp(path.join(tmpdir(), 'signet-kafka-'))
  const [port, controllerPort] = [await freePort(), await freePort()]
  await mkdir(path.join(dir, 'data'))
  const properties = path.join(dir, 'server.properties')
  const logging = path.join(dir, 'log4j2.yaml')
  await writeFile(properties, serverProperties(dir, port, controllerPort))
  await writeFile(
    logging,
    'Configuration:\n  Appenders: { Console: { name: C, PatternLayout: { pattern: "%d %p %m (%c)%n" } } }\n  Loggers: { Root: { level: INFO, AppenderRef: { ref: C } } }\n',
  )
  const java = ['-cp', path.join(jars, '*'), `-Dlog4j2.configurationFile=${logging}`]
  const id = randomBytes(16).toString('base64url')
  const formatted = spawnSync(
    'java',
    [...java, 'kafka.tools.StorageTool', 'format', `--cluster-id=${id}`, '-c', properties],
    {
      encoding: 'utf8',
    },
  )
  if (formatted.status !== 0)
    throw new Error(`the folder of the broker was not made: ${formatted.stdout}${formatted.stderr}`)

  const launch = (): Promise<ChildProcess> =>
    launchBroker([
      ...java,
      '-Xms256m',
      '-Xmx512m',
      '-XX:TieredStopAtLevel=1',
      '-XX:+UseSerialGC',
      'kafka.Kafka',
      properties,
    ])
  let child = await launch()
  const bootstrap = `127.0.0.1:${port}`
  const kill = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  }
  return {
    bootstrap,
    kill,
    freeze: () => void child.kill('SIGSTOP'),
    thaw: () => void child.kill('SIGCONT'),
    async restart() {
      child = await launch()
    },
    async createTopics(topics, { partitions = 3, config = {} } = {}) {
      const admin = new Admin({ clientId: 'test', bootstrapBrokers: [bootstrap], retries: 10 })
      const configs = Object.entries(config).map(([name, value]) => ({ name, value }))
      await admin.createTopics({ topics: [...topics], partitions, replicas: 1, configs })
      await admin.close()
    },
    async stop() {
      await kill()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

async function launchBroker(args: readonly string[]): Promise<ChildProcess> {
  const child = spawn('java', args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  // Told as it passes: a broker that comes back says so much afterwards that the line is soon gone from the tail.
  const started = new Promise<void>((resolve) => {
    const keep = (chunk: Buffer): void => {
      output = (output + chunk.toString()).slice(-16_384)
      if (output.includes('Kafka Server started')) resolve()
    }
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
  })
  const failed = new AbortController()
  const ended = once(child, 'exit', { signal: failed.signal }).then(([code]) => `it ended with ${String(code)}`)
  const late = sleep(START_DEADLINE_MS, `it took longer than ${START_DEADLINE_MS} ms`, { signal: failed.signal })
  const problem = await Promise.race([started, ended, late])
  failed.abort()
  await Promise.allSettled([ended, late])
  if (typeof problem === 'string') {
    child.kill('SIGKILL')
    throw new Error(`the broker did not start: ${problem}: ${output}`)
  }
  return child
}

function serverProperties(dir: string, port: number, controllerPort: number): string {
  return `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:${controllerPort}
listeners=PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}
advertised.listeners=PLAINTEXT://127.0.0.1:${port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=${path.join(dir, 'data')}
num.partitions=3
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
`
}
