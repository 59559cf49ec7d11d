import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { verifyAck } from '#core/audit/acknowledgement.ts'
import { indexKeyring } from '#core/keyring/keyring.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import {
  buildEvent,
  buildLines,
  buildStamp,
  createClient,
  digestOf,
  lineOf,
  stampHashOf,
} from '#test/support/producer.ts'

let stack: LedgerStack
const client = (name: string, ledger = 0) => createClient(stack.ledgers[ledger]?.url ?? '', stack.token(name))

beforeAll(async () => {
  stack = await startLedgerStack()
})
afterAll(() => stack.stop())

describe('append', () => {
  test('a batch is recorded in order, acknowledged, signed and found again', async () => {
    const session = randomUUID()
    const proxy = client('proxy')
    expect((await proxy.open(session)).status).toBe(200)
    const lines = buildLines(session, 1, 3)
    const ack = await proxy.append(lines)

    expect(ack.refused).toEqual([])
    expect(ack.acks.map((one) => one.received_digest)).toEqual(lines.map(digestOf))
    expect(ack.checkpoint.seq).toBe(ack.acks[2]?.seq)
    const key = indexKeyring(stack.keyring).ackKey(ack.key_id)
    if (key === undefined) throw new Error('the acknowledgement names a key that is not in the keyring')
    expect(() => verifyAck(ack, key)).not.toThrow()
    expect(() => verifyAck({ ...ack, tenant: 'globex' }, key)).toThrow()

    const items = await proxy.all(`&session=${session}`)
    expect(items.map((item) => item.event.event_type)).toEqual([
      ...Array(3).fill('egress.decided'),
      'audit.session.opened',
    ])
    expect(items[0]?.commitment).toBe(ack.acks[2]?.commitment)
    // What the producer claimed is not what is recorded.
    expect(items[0]).toMatchObject({ producer_id: 'demo/api', event: { tenant: 'acme' } })
  })

  test('each event and each stamp of a batch is kept with its own bytes, whatever their lengths', async () => {
    const session = randomUUID()
    const proxy = client('proxy')
    const made = [1, 300, 7, 2_000].map((length, index) => {
      const event = buildEvent({ resource: `/${'é'.repeat(length)}` })
      const stamp = {
        ...buildStamp({ tenant: 'acme', producerId: 'demo/api', event }),
        note: '\u20ac'.repeat(length % 11),
      }
      const item = { session, spool_seq: index + 1 }
      return index === 2
        ? { event, stamp: null, line: lineOf({ ...item, event }) }
        : { event, stamp, line: lineOf({ ...item, event: { ...event, stamp_hash: stampHashOf(stamp) }, stamp }) }
    })
    const ack = await proxy.append(made.map(({ line }) => line))
    expect(ack.refused).toEqual([])
    const items = (await proxy.all(`&session=${session}&event_type=egress.decided`)).toReversed()
    expect(items.map((item) => item.event.resource)).toEqual(made.map(({ event }) => event.resource))
    for (const { stamp } of made) {
      if (stamp !== null) expect(await proxy.get(`/api/audit/stamps/${stampHashOf(stamp)}`)).toEqual(stamp)
    }
    expect(await proxy.verify()).toMatchObject({ ok: true, checked: ack.checkpoint.seq })
  })

  test('the same batch again changes nothing and is acknowledged the same', async () => {
    const session = randomUUID()
    const proxy = client('proxy')
    const lines = buildLines(session, 1, 5)
    const first = await proxy.append(lines)
    const again = await proxy.append(lines)
    expect(again.acks).toEqual(first.acks)
    expect(again.checkpoint.seq).toBe(first.checkpoint.seq)
  })

  test('the same event id with other bytes is refused, and the refusal recorded once', async () => {
    const session = randomUUID()
    const proxy = client('proxy')
    const event = buildEvent()
    await proxy.append([lineOf({ session, spool_seq: 1, event })])
    const other = [lineOf({ session, spool_seq: 2, event: { ...event, actor: 'user:mallory' } })]
    const refused = await proxy.append(other)
    expect(refused.acks).toEqual([])
    expect(refused.refused).toMatchObject([{ line: 1, event_id: event.event_id, code: 'EVENT_ID_CONFLICT' }])
    expect((await proxy.append(other)).checkpoint.seq).toBe(refused.checkpoint.seq)
    const items = await proxy.all(`&session=${session}&event_type=audit.refused`)
    expect(items).toHaveLength(1)
    expect(items[0]).toMatchObject({
      spool_seq: 2,
      event: { outcome: 'denied', context: { code: 'EVENT_ID_CONFLICT' } },
    })
  })
})
