import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { Consumer, Producer, type BaseOptions } from '@platformatic/kafka'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestAuthority } from '#test/support/kafka-certificates.ts'
import { startBroker, type TestBroker } from '#test/support/kafka.ts'
import { startLedgerStack, type LedgerProcess, type LedgerStack } from '#test/support/ledger.ts'
import { buildEvent, createClient } from '#test/support/producer.ts'

/** A real broker that speaks TLS alone to whom it knows: by SCRAM, or by a certificate. Each user may what it needs, and no more. */
const GROUP = 'signet-ledger'
const PASSWORD = 'right'
const POLL = { timeout: 90_000, interval: 300 }
const brokers = createTestAuthority('brokers')
const clients = createTestAuthority('clients')
let broker: TestBroker
let stack: LedgerStack
let common: Record<string, string>
/** Who writes to the ingest topics. */
let other: BaseOptions

beforeAll(async () => {
  const users = { ledger: PASSWORD, other: 'of the other' }
  ;[broker, stack] = await Promise.all([
    startBroker({ server: brokers.issueServer(), clients: clients.cert, users }),
    startLedgerStack({ ledgers: 0 }),
  ])
  const pair = clients.issueClient('signet-mutual')
  common = {
    SIGNET_KAFKA_TLS: 'on',
    SIGNET_KAFKA_TLS_CA: await put('ca.pem', brokers.cert),
  }
  await put('client.crt', pair.cert)
  await put('client.key', pair.key)
  await put('password', `${PASSWORD}\n`)
  other = {
    clientId: 'other',
    bootstrapBrokers: [broker.secured.scram],
    tls: { ca: brokers.cert },
    sasl: { mechanism: 'SCRAM-SHA-256', username: 'other', password: users.other },
    retries: 10,
  }
})
afterAll(async () => {
  await stack?.stop()
  await broker?.stop()
})

const fileNamed = (name: string): string => path.join(stack.dir, name)
async function put(name: string, text: string): Promise<string> {
  await writeFile(fileNamed(name), text)
  return fileNamed(name)
}
const scram = (passwordFile = 'password') => ({
  ...common,
  SIGNET_KAFKA_BOOTSTRAP_SERVERS: broker.secured.scram,
  SIGNET_KAFKA_SASL_MECHANISM: 'SCRAM-SHA-256',
  SIGNET_KAFKA_SASL_USERNAME: 'ledger',
  SIGNET_KAFKA_SASL_PASSWORD_FILE: fileNamed(passwordFile),
})
const mutual = () => ({
  ...common,
  SIGNET_KAFKA_BOOTSTRAP_SERVERS: broker.secured.mutual,
  SIGNET_KAFKA_TLS_CERT: fileNamed('client.crt'),
  SIGNET_KAFKA_TLS_KEY: fileNamed('client.key'),
})

/** Topics of a test's own, out and in: what one is allowed says nothing of another. */
async function createTopics() {
  const name = randomUUID().slice(0, 8)
  const topics = { out: `out-${name}`, in: `in-${name}`, dead: `in-${name}.dead-letter` }
  await broker.createTopics(Object.values(topics), { partitions: 1 })
  await broker.allow('other', 'TOPIC', topics.in, ['WRITE', 'DESCRIBE'])
  await broker.allow('other', 'TOPIC', topics.out, ['READ', 'DESCRIBE'])
  await broker.allow('other', 'GROUP', `reader-${topics.out}`, ['READ'])
  return topics
}
type Topics = Awaited<ReturnType<typeof createTopics>>
async function allowFeed(user: string, { out }: Topics): Promise<void> {
  await broker.allow(user, 'TOPIC', out, ['WRITE', 'DESCRIBE'])
}
async function allowIntake(user: string, topics: Topics): Promise<void> {
  await broker.allow(user, 'TOPIC', topics.in, ['READ', 'DESCRIBE'])
  await broker.allow(user, 'TOPIC', topics.dead, ['WRITE', 'DESCRIBE'])
  await broker.allow(user, 'GROUP', GROUP, ['READ', 'DESCRIBE'])
}

const startLedger = (env: Record<string, string>, { out, in: ingest }: Topics): Promise<LedgerProcess> =>
  stack.startLedger({ env: { ...env, SIGNET_KAFKA_TOPIC: out, SIGNET_KAFKA_INGEST_TOPICS: `${ingest}=acme` } })

/** An event that another system sends to the ingest topic comes out of the feed's topic. */
async function expectRoundTrip(topics: Topics): Promise<void> {
  const event = buildEvent({ actor: 'service:legacy' })
  const producer = new Producer(other)
  await producer.send({ acks: -1, messages: [{ topic: topics.in, value: Buffer.from(JSON.stringify(event)) }] })
  await producer.close()
  const consumer = new Consumer({ ...other, groupId: `reader-${topics.out}`, maxWaitTime: 200 })
  const stream = await consumer.consume({ topics: [topics.out], mode: 'earliest', autocommit: false })
  const deadline = setTimeout(() => stream.destroy(new Error('the event did not come')), POLL.timeout)
  try {
    for await (const { headers } of stream) {
      const id = [...headers].find(([name]) => String(name) === 'ce_id')?.[1]
      if (String(id) === event.event_id) return
    }
    throw new Error('the topic ended')
  } finally {
    clearTimeout(deadline)
    await consumer.close(true)
  }
}
async function counted({ url }: LedgerProcess, name: string, code: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return Number(new RegExp(`^${name}\\{code="${code}"\\} (\\S+)$`, 'm').exec(text)?.[1] ?? 0)
}
/** Both ways say what is wrong, and go on trying. */
async function expectRefused(ledger: LedgerProcess, words: string): Promise<void> {
  await expect.poll(() => ledger.output(), POLL).toContain(`: ${words}`)
  for (const name of ['signet_feed_errors_total', 'signet_kafka_intake_errors_total'])
    await expect.poll(() => counted(ledger, name, 'KAFKA_REFUSED'), POLL).toBeGreaterThanOrEqual(2)
  expect(ledger.output()).not.toContain(PASSWORD)
  // Recording does not wait for Kafka.
  const client = createClient(ledger.url, stack.token('proxy'))
  expect((await client.post('/api/audit/logs', JSON.stringify(buildEvent({})))).status).toBe(201)
}

test.each([
  { name: 'SCRAM over TLS', user: 'ledger', env: scram },
  { name: "a client's certificate", user: 'signet-mutual', env: mutual },
])('hands on and takes in by $name', async ({ user, env }) => {
  const topics = await createTopics()
  await allowFeed(user, topics)
  await allowIntake(user, topics)
  const ledger = await startLedger(env(), topics)
  await expectRoundTrip(topics)
  await ledger.stop()
})

test('a password that is wrong is named, and counts from when its file is right', async () => {
  const topics = await createTopics()
  await allowFeed('ledger', topics)
  await allowIntake('ledger', topics)
  await put('changing', 'wrong')
  const ledger = await startLedger(scram('changing'), topics)
  await expectRefused(ledger, 'it does not know SIGNET_KAFKA_SASL_USERNAME with the password')
  await put('changing', PASSWORD)
  await expectRoundTrip(topics)
  await ledger.stop()
})

test('topics that the ACLs do not allow are named, and used once they do', async () => {
  const topics = await createTopics()
  const ledger = await startLedger(scram(), topics)
  await expectRefused(ledger, 'its ACLs do not allow the topic')
  expect(ledger.output()).toContain(`Kafka refused writing to the topic ${topics.out}`)
  expect(ledger.output()).toContain(`Kafka refused reading ${topics.in}`)
  await allowFeed('ledger', topics)
  await allowIntake('ledger', topics)
  await expectRoundTrip(topics)
  await ledger.stop()
})

test('a broker with a certificate of another authority gets nothing', async () => {
  const topics = await createTopics()
  await allowFeed('ledger', topics)
  await allowIntake('ledger', topics)
  const ca = await put('another.pem', createTestAuthority('another').cert)
  const ledger = await startLedger({ ...scram(), SIGNET_KAFKA_TLS_CA: ca }, topics)
  await expectRefused(ledger, 'the certificate of the broker is of no authority of SIGNET_KAFKA_TLS_CA')
  await ledger.stop()
})

test('files that are no certificates are named before anything begins', async () => {
  const topics = await createTopics()
  const nonsense = await put('nonsense.pem', '-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n')
  await expect(startLedger({ ...mutual(), SIGNET_KAFKA_TLS_CERT: nonsense }, topics)).rejects.toThrow(
    /SIGNET_KAFKA_TLS_CERT.*name no PEM files/,
  )
})
