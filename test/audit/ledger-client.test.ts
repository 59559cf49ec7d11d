import { setTimeout as sleep } from 'node:timers/promises'
import { createHash, randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { canonicalize } from '#core/canonical/jcs.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { createLedgerClient, type LedgerClient, type LedgerClientOptions } from '#proxy/audit/ledger-client.ts'
import { startFakeLedger, type FakeLedger } from '#test/support/fake-ledger.ts'

let ledger: FakeLedger
let clients: LedgerClient[]

beforeEach(async () => {
  ledger = await startFakeLedger()
  clients = []
})

afterEach(async () => {
  for (const client of clients) await client.close()
  await ledger.stop()
})

function connect(options: Partial<LedgerClientOptions> = {}): LedgerClient {
  const client = createLedgerClient({ url: ledger.url, token: ledger.token, timeoutMs: 300, ...options })
  clients.push(client)
  return client
}

async function failure(promise: Promise<unknown>): Promise<SignetError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!(error instanceof SignetError)) throw new Error(`expected a SignetError, got ${String(error)}`)
  return error
}

const stamp = {
  stamp_version: 'v1',
  timestamp_utc: '2026-11-23T09:30:00.123Z',
  data_classification: 'internal',
  regulatory_compliance: ['NONE'],
  approval_status: 'approved',
  data_lineage: {
    producer_id: 'test/proxy',
    source_assets: [],
    transformations: [],
    request_id: 'r 1/ü',
    trace_id: '4bf92f3577b34da6a3ce929d0e0e4736',
  },
  subject: {
    tenant: 'acme',
    method: 'GET',
    target_digest: `sha256:${'0'.repeat(64)}`,
    status: 200,
    media_type: 'application/json',
    channel: 'external',
  },
  policy: { bundle_revision: 'one', decision_id: 'two' },
  integrity: {
    alg: 'HMAC-SHA256',
    key_id: 'k',
    canonicalization: 'bytes',
    payload_digest: `sha256:${'0'.repeat(64)}`,
    payload_length: 2,
    mac: '0'.repeat(64),
  },
}
const stampBytes = Buffer.from(canonicalize(stamp))
const stampHash = `sha256:${createHash('sha256').update(stampBytes).digest('hex')}`

const session = randomUUID()
const opening = { version: 1, session, started_at: '2026-11-23T09:30:00.123Z', software: 'test' } as const

it('opens and closes a session', async () => {
  const client = connect()
  expect(await client.openSession(opening)).toMatchObject({ session, tenant: 'acme', producer_id: 'test/proxy' })
  await client.closeSession(session, { version: 1, last_spool_seq: 0, clean: true })
  expect(ledger.sessions.get(session)?.closed).toEqual([{ last_spool_seq: 0, clean: true }])
})

it('reads its token from a file, anew every second and where it was refused', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'signet-token-'))
  const file = join(dir, 'token')
  writeFileSync(file, 'old')
  const client = connect({ token: { file } })
  expect(await failure(client.openSession(opening))).toMatchObject({
    code: 'LEDGER_REFUSED',
    details: { status: 401, code: 'UNAUTHENTICATED' },
  })
  writeFileSync(file, `${ledger.token}\n`)
  expect(await client.openSession(opening)).toMatchObject({ session })
  rmSync(dir, { recursive: true })
  expect(await client.openSession(opening)).toMatchObject({ session })
  await sleep(1_100)
  expect(await failure(client.openSession(opening))).toMatchObject({ code: 'LEDGER_UNREACHABLE' })
})

it('never shows its token', async () => {
  const client = connect()
  ledger.troubles.sessions.push({ kind: 'reset' }, { kind: 'status', status: 500 })
  for (let call = 0; call < 2; call += 1) {
    const error = await failure(client.openSession(opening))
    expect(
      JSON.stringify({ message: error.message, details: error.details, cause: String(error.cause) }),
    ).not.toContain(ledger.token)
  }
})

it('gives up when told to, and after its time', async () => {
  const client = connect({ timeoutMs: 100 })
  ledger.troubles.sessions.push({ kind: 'hang' }, { kind: 'hang' })
  expect((await failure(client.openSession(opening))).message).toContain('no answer within 100 ms')
  const patient = connect({ timeoutMs: 60_000 })
  expect(await failure(patient.openSession(opening, AbortSignal.timeout(50)))).toMatchObject({
    code: 'LEDGER_UNREACHABLE',
  })
})

it('does not take the session of another for its own', async () => {
  const client = connect()
  const other = {
    version: 1,
    session: randomUUID(),
    tenant: 'acme',
    producer_id: 'p',
    checkpoint: { tenant: 'acme', seq: 0, hash: '0'.repeat(64), timestamp_utc: opening.started_at },
  }
  ledger.troubles.sessions.push({ kind: 'garbage', body: JSON.stringify(other) })
  expect(await failure(client.openSession(opening))).toMatchObject({ code: 'LEDGER_RESPONSE_INVALID' })
})

describe('stamps', () => {
  const REQUEST = 'r 1/ü'
  it('come by hash and by request as exact bytes, null where unknown', async () => {
    const client = connect()
    expect(await client.fetchStamp(stampHash)).toBeNull()
    expect(await client.fetchRequestStamp(REQUEST)).toBeNull()
    ledger.stamps.set(stampHash, stampBytes)
    ledger.stamps.set(REQUEST, stampBytes)
    expect(await client.fetchStamp(stampHash)).toEqual(stampBytes)
    expect(await client.fetchRequestStamp(REQUEST)).toEqual(stampBytes)
  })

  it.each(['', 'sha256:', '../sessions', `sha256:${'A'.repeat(64)}`])(
    '«%s» is no hash and is not asked for',
    async (hash) => {
      ledger.troubles.stamps.push({ kind: 'status', status: 500 })
      expect(await connect().fetchStamp(hash)).toBeNull()
      expect(ledger.troubles.stamps).toHaveLength(1)
    },
  )

  it.each([
    { name: 'other bytes', bytes: Buffer.from(canonicalize({ ...stamp, approval_status: 'draft' })) },
    { name: 'no stamp', bytes: Buffer.from('{}') },
    { name: 'no JSON', bytes: Buffer.from('<html>') },
  ])('$name are refused', async ({ bytes }) => {
    ledger.stamps.set(stampHash, bytes)
    expect(await failure(connect().fetchStamp(stampHash))).toMatchObject({ code: 'LEDGER_RESPONSE_INVALID' })
  })

  it('of another request is refused', async () => {
    ledger.stamps.set('mine', stampBytes)
    expect(await failure(connect().fetchRequestStamp('mine'))).toMatchObject({ code: 'LEDGER_RESPONSE_INVALID' })
  })
})

it.each(['ledger:8090', 'ftp://ledger', 'http://user:secret@ledger', 'http://ledger/?token=secret', ''])(
  'refuses «%s» as an address without repeating it',
  (url) => {
    let thrown: unknown
    try {
      connect({ url })
    } catch (error) {
      thrown = error
    }
    expect(thrown).toMatchObject({ code: 'CONFIG_INVALID' })
    expect(String(thrown)).not.toContain('secret')
  },
)
