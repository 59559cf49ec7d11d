import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { AclOperations, AclPermissionTypes, Admin, ResourcePatternTypes, ResourceTypes } from '@platformatic/kafka'
import { ensureKafka } from '#tools/kafka/build.ts'
import type { TestPair } from './kafka-certificates.ts'
import { freePort } from './real-services.ts'

/** A real Kafka broker (KRaft, one node) of the test's own, about 5 s to start. */
export type TestBroker = {
  readonly bootstrap: string
  /** With `security`: TLS with SCRAM-SHA-256, and TLS with a client's certificate. What is not allowed there is forbidden; `bootstrap` may all. */
  readonly secured: { readonly scram: string; readonly mutual: string }
  /** Allows a user operations on a topic, a group or the cluster. */
  allow(
    user: string,
    what: 'TOPIC' | 'GROUP' | 'CLUSTER',
    name: string,
    operations: readonly AclOperation[],
  ): Promise<void>
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

type AclOperation = 'READ' | 'WRITE' | 'DESCRIBE' | 'IDEMPOTENT_WRITE'
export type BrokerSecurity = {
  readonly server: TestPair
  /** PEM of the authority of clients' certificates. Their users are their common names. */
  readonly clients: string
  /** Passwords of SCRAM-SHA-256 users. */
  readonly users: Readonly<Record<string, string>>
}

const START_DEADLINE_MS = 90_000

export async function startBroker(security?: BrokerSecurity): Promise<TestBroker> {
  const jars = await ensureKafka()
  const dir = await mkdtemp(path.join(tmpdir(), 'signet-kafka-'))
  const [port, controllerPort, scramPort, mutualPort] = [
    await freePort(),
    await freePort(),
    await freePort(),
    await freePort(),
  ]
  await mkdir(path.join(dir, 'data'))
  const properties = path.join(dir, 'server.properties')
  const logging = path.join(dir, 'log4j2.yaml')
  const bootstrap = `127.0.0.1:${port}`
  const secured = { scram: `localhost:${scramPort}`, mutual: `localhost:${mutualPort}` }
  const controller = `127.0.0.1:${controllerPort}`
  await writeFile(
    properties,
    security === undefined
      ? serverProperties(dir, { PLAINTEXT: bootstrap }, controller)
      : serverProperties(dir, { PLAINTEXT: bootstrap, SASL_SSL: secured.scram, SSL: secured.mutual }, controller) +
          securityProperties(security),
  )
  await writeFile(
    logging,
    'Configuration:\n  Appenders: { Console: { name: C, PatternLayout: { pattern: "%d %p %m (%c)%n" } } }\n  Loggers: { Root: { level: INFO, AppenderRef: { ref: C } } }\n',
  )
  const java = ['-cp', path.join(jars, '*'), `-Dlog4j2.configurationFile=${logging}`]
  const id = randomBytes(16).toString('base64url')
  const formatted = spawnSync(
    'java',
    [
      ...java,
      'kafka.tools.StorageTool',
      'format',
      `--cluster-id=${id}`,
      '-c',
      properties,
      ...Object.entries(security?.users ?? {}).flatMap(([name, password]) => [
        '--add-scram',
        `SCRAM-SHA-256=[name=${name},password=${password}]`,
      ]),
    ],
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
  const kill = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  }
  return {
    bootstrap,
    secured,
    async allow(user, what, name, operations) {
      const admin = new Admin({ clientId: 'test', bootstrapBrokers: [bootstrap], retries: 10 })
      const creations = operations.map((operation) => ({
        resourceType: ResourceTypes[what],
        resourceName: name,
        resourcePatternType: ResourcePatternTypes.LITERAL,
        principal: `User:${user}`,
        host: '*',
        operation: AclOperations[operation],
        permissionType: AclPermissionTypes.ALLOW,
      }))
      await admin.createAcls({ creations })
      await admin.close()
    },
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

/** `listeners`: ADDRESS by the name of its protocol. */
function serverProperties(dir: string, listeners: Readonly<Record<string, string>>, controller: string): string {
  const all = Object.entries(listeners).map(([protocol, address]) => `${protocol}://${address}`)
  return `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@${controller}
listeners=${all.join(',')},CONTROLLER://${controller}
advertised.listeners=${all.join(',')}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
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

/** Who comes without TLS is the test itself, and may all. */
function securityProperties({ server, clients }: BrokerSecurity): string {
  const inOneLine = (pem: string): string => pem.trim().replaceAll('\n', '\\n')
  return `authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
sasl.enabled.mechanisms=SCRAM-SHA-256
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.ssl.ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^CN=([^,]+)$/$1/
ssl.keystore.type=PEM
ssl.keystore.certificate.chain=${inOneLine(server.cert)}
ssl.keystore.key=${inOneLine(server.key)}
ssl.truststore.type=PEM
ssl.truststore.certificates=${inOneLine(clients)}
`
}
