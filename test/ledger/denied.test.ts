import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { indexKeyring } from '#core/keyring/keyring.ts'
import { bytesPayload } from '#core/stamp/payload.ts'
import { signStamp } from '#core/stamp/sign.ts'
import { startLedgerStack, type LedgerProcess, type LedgerStack } from '#test/support/ledger.ts'
import { buildEvent, buildStamp, createClient, lineOf } from '#test/support/producer.ts'

/** One producer is shut out while it writes, and let in again; the other does not notice. */
let stack: LedgerStack
let ledger: LedgerProcess
let file: string
beforeAll(async () => {
  stack = await startLedgerStack({ ledgers: 0 })
  file = path.join(stack.dir, 'denied.yaml')
  await deny([])
  ledger = await stack.startLedger({ env: { SIGNET_LEDGER_DENIED_PRODUCERS: file } })
})
afterAll(() => stack?.stop())

const POLL = { timeout: 15_000, interval: 200 }
const deny = (denied: object[]): Promise<void> => writeFile(file, JSON.stringify({ version: 1, denied }))
const post = async (
  name: string,
  at: string,
  type: string,
  body: string,
): Promise<{ status: number; code?: string }> => {
  const answer = await fetch(ledger.url + at, {
    method: 'POST',
    headers: { authorization: `Bearer ${stack.token(name)}`, 'content-type': type },
    body,
  })
  const { code } = (await answer.json().catch(() => ({}))) as { code?: string }
  return { status: answer.status, ...(code === undefined ? {} : { code }) }
}
let seq = 0
const session = randomUUID()
const write = (name: string) =>
  post(
    name,
    '/api/audit/ingest',
    'application/x-ndjson',
    `${lineOf({ session: name === 'proxy' ? session : randomUUID(), spool_seq: (seq += 1), event: buildEvent({}) })}\n`,
  )

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
async function verdictOn(stamp: string): Promise<unknown> {
  const answer = await createClient(ledger.url, stack.token('auditor')).post('/api/audit/stamps/verify', stamp)
  const { verified, code } = (await answer.json()) as { verified: boolean; code?: string }
  return code ?? verified
}

it('is refused from then on, everywhere, and recorded; the others are not; and is let in again', async () => {
  const [second, first] = [stampOf('demo/second'), stampOf('demo/api')]
  expect([await verdictOn(second), await verdictOn(first)]).toEqual([true, true])
  expect(await write('second')).toEqual({ status: 200 })
  await deny([{ tenant: 'acme', producer_id: 'demo/second', reason: 'incident 12' }])
  await expect.poll(() => write('second'), POLL).toEqual({ status: 403, code: 'PRODUCER_DENIED' })
  expect(await post('second', '/api/audit/sessions', 'application/json', '{}')).toEqual({
    status: 403,
    code: 'PRODUCER_DENIED',
  })
  expect(await write('proxy')).toEqual({ status: 200 })
  expect([await verdictOn(second), await verdictOn(first)]).toEqual(['PRODUCER_DENIED', true])

  const auditor = createClient(ledger.url, stack.token('auditor'))
  const recorded = () => auditor.all('&event_type=identity.denied')
  await expect.poll(async () => (await recorded()).length, POLL).toBeGreaterThanOrEqual(1)
  expect((await recorded())[0]).toMatchObject({
    event: {
      outcome: 'denied',
      resource_id: 'demo/second',
      context: { producer_id: 'demo/second', reason: 'incident 12' },
    },
  })

  // A file that is none changes nothing.
  await writeFile(file, '{"version": 1, "denied": [{"tenant": 1}]}')
  await expect.poll(() => ledger.output(), POLL).toContain('what it said before holds')
  expect(await write('second')).toEqual({ status: 403, code: 'PRODUCER_DENIED' })
  await deny([])
  await expect.poll(() => write('second'), POLL).toEqual({ status: 200 })
})
