import { createHash, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { indexKeyring } from '#core/keyring/keyring.ts'
import { bytesPayload } from '#core/stamp/payload.ts'
import { signStamp } from '#core/stamp/sign.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildEvent, buildLines, buildStamp, createClient } from '#test/support/producer.ts'

/** Two replicas on one pair of databases: what one is told holds there at once, and on the other a second later. */
let stack: LedgerStack
beforeAll(async () => {
  stack = await startLedgerStack({
    ledgers: 2,
    identities: [
      { name: 'proxy', tenant: 'acme', producer_id: 'demo/api', scopes: ['audit:write', 'audit:read'] },
      { name: 'second', tenant: 'acme', producer_id: 'demo/second', scopes: ['audit:write'] },
      { name: 'second-too', tenant: 'acme', producer_id: 'demo/second', scopes: ['audit:write'] },
      { name: 'auditor', tenant: 'acme', scopes: ['audit:read'] },
      { name: 'admin', tenant: 'acme', scopes: ['audit:admin'] },
      { name: 'globex-proxy', tenant: 'globex', producer_id: 'demo/second', scopes: ['audit:write'] },
      { name: 'globex-admin', tenant: 'globex', scopes: ['audit:admin'] },
    ],
  })
})
afterAll(() => stack?.stop())

const PATH = '/api/audit/tokens/revocations'
type Answer = { status: number; body: Record<string, unknown> & { code?: string; id?: string } }
async function call(replica: 0 | 1, name: string, method: string, path: string, body?: unknown): Promise<Answer> {
  const answer = await fetch((stack.ledgers[replica]?.url ?? '') + path, {
    method,
    headers: {
      authorization: `Bearer ${stack.token(name)}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return { status: answer.status, body: (await answer.json().catch(() => ({}))) as Answer['body'] }
}
const revoke = (what: object, name = 'admin'): Promise<Answer> =>
  call(0, name, 'POST', PATH, { reason: 'incident 12', ...what })
const lift = (id: unknown): Promise<Answer> => call(0, 'admin', 'DELETE', `${PATH}/${String(id)}?reason=over`)
const write = async (replica: 0 | 1, name: string): Promise<unknown> => {
  const { status, body } = await call(replica, name, 'POST', '/api/audit/logs', buildEvent({}))
  return body.code ?? status
}
/** The bound that is promised for the other replica: never longer, however slow the machine. */
const elsewhere = (): Promise<void> => sleep(1_000)
const digestOf = (name: string): string => createHash('sha256').update(stack.token(name)).digest('hex')
const recorded = async (type: string) =>
  (await createClient(stack.ledgers[1]?.url ?? '', stack.token('auditor')).all(`&event_type=${type}`)).map(
    ({ event }) => event,
  )

it('a token is shut out at once where it was revoked and a second later everywhere, no other is, and is let in again', async () => {
  expect([await write(1, 'second'), await write(1, 'second-too')]).toEqual([201, 201])
  const made = await revoke({ token_sha256: digestOf('second') })
  expect(await write(0, 'second')).toBe('CREDENTIAL_REVOKED')
  await elsewhere()
  expect(await write(1, 'second')).toBe('CREDENTIAL_REVOKED')
  expect(await write(1, 'second-too')).toBe(201)
  expect(made).toMatchObject({
    status: 201,
    body: { state: 'revoked', token_sha256: digestOf('second'), lifted: null },
  })
  expect(made.body['recorded_at']).not.toBeNull()
  expect(await recorded('identity.revoked')).toMatchObject([
    { resource_id: made.body.id, outcome: 'success', context: { kind: 'token', reason: 'incident 12', by: 'admin' } },
  ])
  await expect
    .poll(() => recorded('identity.denied'), { timeout: 15_000, interval: 200 })
    .toMatchObject([{ resource_id: made.body.id, context: { producer_id: 'demo/second', reason: 'incident 12' } }])

  const again = await revoke({ token_sha256: digestOf('second'), reason: 'another' })
  expect(again).toEqual({ status: 200, body: made.body })
  expect(await recorded('identity.revoked')).toHaveLength(1)

  expect(await lift(made.body.id)).toMatchObject({ status: 200, body: { state: 'lifted', lifted: { by: 'admin' } } })
  expect(await write(0, 'second')).toBe(201)
  await elsewhere()
  expect(await write(1, 'second')).toBe(201)
  expect(await lift(made.body.id)).toMatchObject({ status: 200, body: { state: 'lifted' } })
  expect(await recorded('identity.reinstated')).toHaveLength(1)
})

it('a producer is shut out with all its tokens and its stamps, in its own tenant only', async () => {
  const verdict = async (): Promise<unknown> => {
    const client = createClient(stack.ledgers[1]?.url ?? '', stack.token('auditor'))
    const answer = (await (await client.post('/api/audit/stamps/verify', stampOf('demo/second'))).json()) as {
      verified: boolean
      code?: string
    }
    return answer.code ?? answer.verified
  }
  expect(await verdict()).toBe(true)
  const made = await revoke({ producer_id: 'demo/second' })
  await elsewhere()
  expect([await write(1, 'second'), await write(1, 'second-too')]).toEqual(['CREDENTIAL_REVOKED', 'CREDENTIAL_REVOKED'])
  expect(await verdict()).toBe('PRODUCER_DENIED')
  expect([await write(1, 'proxy'), await write(1, 'globex-proxy')]).toEqual([201, 201])
  await lift(made.body.id)
  await elsewhere()
  expect([await write(1, 'second'), await verdict()]).toEqual([201, true])
})

it('nothing of another tenant is touched, shown or lifted', async () => {
  const token = await revoke({ token_sha256: digestOf('globex-proxy') })
  await elsewhere()
  expect(await write(1, 'globex-proxy')).toBe(201)
  for (const [method, path] of [
    ['GET', `${PATH}/${token.body.id}`],
    ['DELETE', `${PATH}/${token.body.id}?reason=x`],
  ] as const)
    expect((await call(1, 'globex-admin', method, path)).body.code).toBe('NOT_FOUND')
  expect((await call(1, 'globex-admin', 'GET', `${PATH}?state=all`)).body['items']).toEqual([])
  expect((await call(1, 'admin', 'GET', `${PATH}/${token.body.id}`)).body['state']).toBe('revoked')
  expect((await call(1, 'auditor', 'GET', PATH)).body.code).toBe('FORBIDDEN')
  await lift(token.body.id)
})

it('lists those that stand, page by page, and all on demand', async () => {
  const ids: unknown[] = []
  for (const name of ['one', 'two', 'three']) ids.push((await revoke({ producer_id: `list/${name}` })).body.id)
  const page = async (query: string) => {
    const { items, next_cursor } = (await call(1, 'admin', 'GET', `${PATH}${query}`)).body as unknown as {
      items: { id: string }[]
      next_cursor: string | null
    }
    return { ids: items.map(({ id }) => id), next: next_cursor }
  }
  const first = await page('?limit=2')
  expect(first.ids).toEqual([ids[2], ids[1]])
  expect(await page(`?limit=2&cursor=${first.next}`)).toEqual({ ids: [ids[0]], next: null })
  await lift(ids[1])
  expect((await page('')).ids).toEqual([ids[2], ids[0]])
  expect((await page('?state=all')).ids).toEqual(expect.arrayContaining(ids))
})

it.each([
  [{ reason: 'no target' }],
  [{ token_sha256: 'A'.repeat(64) }],
  [{ producer_id: 'a', token_sha256: 'a'.repeat(64) }],
  [{ producer_id: 'a\u0000' }],
  [{ producer_id: '\u{1F600}'.repeat(512) }],
  [{ service_account: 'no-namespace' }],
  [{ producer_id: 'a', reason: 'ask jane@example.org' }],
  [{ producer_id: 'a', reason: '' }],
])('%j is refused', async (what) => {
  const answer = await revoke(what)
  expect([answer.status, answer.body.code]).toEqual([400, 'REQUEST_INVALID'])
})

it('while the work database is away: who was let in goes on, who was shut out stays out, who is unknown waits', async () => {
  const made = await revoke({ token_sha256: digestOf('second-too') })
  await elsewhere()
  expect([await write(1, 'proxy'), await write(1, 'second-too')]).toEqual([201, 'CREDENTIAL_REVOKED'])
  await stack.work.server.kill('SIGKILL')
  try {
    const proxy = createClient(stack.ledgers[1]?.url ?? '', stack.token('proxy'))
    expect((await proxy.ingest(buildLines(randomUUID(), 1, 1))).status).toBe(200)
    expect(await write(1, 'second-too')).toBe('CREDENTIAL_REVOKED')
    const fresh = await stack.startLedger()
    const unknown = await createClient(fresh.url, stack.token('proxy')).ingest(buildLines(randomUUID(), 1, 1))
    expect([unknown.status, ((await unknown.json()) as { code: string }).code]).toEqual([503, 'IDENTITY_UNAVAILABLE'])
    await fresh.kill()
  } finally {
    await stack.work.restart()
  }
  const POLL = { timeout: 30_000, interval: 200 }
  await expect.poll(async () => (await lift(made.body.id)).status, POLL).toBe(200)
  await expect.poll(() => write(1, 'second-too'), POLL).toBe(201)
})

it('what the wall kept out of the chain holds all the same, and is recorded when the wall is there again', async () => {
  const before = (await recorded('identity.revoked')).length
  await stack.wall.server.kill('SIGKILL')
  try {
    expect((await revoke({ producer_id: 'demo/second' })).body.code).toBe('DATABASE_UNAVAILABLE')
    await elsewhere()
    expect([await write(0, 'second'), await write(1, 'second')]).toEqual(['CREDENTIAL_REVOKED', 'CREDENTIAL_REVOKED'])
  } finally {
    await stack.wall.restart()
  }
  const waited = () => recorded('identity.revoked').catch(() => [])
  await expect.poll(async () => (await waited()).length, { timeout: 60_000, interval: 500 }).toBe(before + 1)
  expect((await waited()).at(0)?.context).toMatchObject({ kind: 'producer', target: 'demo/second' })
})

/** A stamp of a producer, made with its key of the keyring. */
function stampOf(producerId: string): string {
  const { integrity: _, ...claims } = buildStamp({ tenant: 'acme', producerId, event: buildEvent({}) })
  const at = new Date()
  const key = indexKeyring(stack.keyring).activeStampKey({ producerId, tenant: 'acme', at })!
  const { digest, length } = bytesPayload(Buffer.from('{}'))
  return signStamp({
    claims: { ...claims, timestamp_utc: at.toISOString() },
    canonicalization: 'bytes',
    payloadDigest: digest,
    payloadLength: length,
    key,
  }).jcs
}
