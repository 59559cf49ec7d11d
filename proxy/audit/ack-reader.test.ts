import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { signAck } from '#core/audit/acknowledgement.ts'
import type { IngestAck } from '#core/audit/wire.ts'
import { canonicalize } from '#core/canonical/jcs.ts'
import { digestText, sha256Hex } from '#core/crypto/digest.ts'
import type { ActiveAckKey } from '#core/keyring/keyring.ts'
import { openAck } from './ack-reader.ts'
import { matchAnswer } from './answer.ts'
import { LineBatch } from './line-batch.ts'

const pair = generateKeyPairSync('ed25519')
const KEY: ActiveAckKey = {
  keyId: 'ack-1',
  notBefore: '2026-01-01T00:00:00.000Z',
  notAfter: '2027-01-01T00:00:00.000Z',
  revokedAt: null,
  publicKey: pair.publicKey,
  privateKey: pair.privateKey,
}
const keyring = { ackKey: (id: string) => (id === KEY.keyId ? KEY : undefined) }
const idOf = (seq: number): string => `00000000-0000-7000-8000-${String(seq).padStart(12, '0')}`
const lineOf = (seq: number): string => `{"event":{"event_id":"${idOf(seq)}","tenant":"größe"},"spool_seq":${seq}}`

function batchOf(count: number): LineBatch {
  const batch = new LineBatch(Buffer.alloc(count * 200), count).reset(1, 64)
  for (let seq = 1; seq <= count; seq += 1) {
    const line = Buffer.from(lineOf(seq))
    batch.add(seq, line, 0, line.length, 64 + seq * 100)
  }
  return batch
}

function unsigned(seqs: readonly number[], change: Partial<IngestAck> = {}): Omit<IngestAck, 'signature'> {
  return {
    acks: seqs.map((seq) => ({
      commitment: sha256Hex(`commitment ${seq}`),
      event_id: idOf(seq),
      received_digest: digestText(lineOf(seq)),
      seq: 1_000 + seq,
      spool_seq: seq,
    })),
    checkpoint: { hash: 'a'.repeat(64), seq: 2_000, tenant: 'größe', timestamp_utc: '2026-11-23T09:30:00.123Z' },
    key_id: KEY.keyId,
    refused: [],
    tenant: 'größe',
    version: 1,
    ...change,
  }
}

/** As the ledger writes it: canonical, `signature` at the end. */
const asLedger = (ack: IngestAck): Buffer => {
  const { signature, ...rest } = ack
  return Buffer.from(`${canonicalize(rest).slice(0, -1)},"signature":"${signature}"}`)
}
/** As any other JSON writer may. */
const asOther = (ack: IngestAck): Buffer => {
  const { signature, version, acks, ...rest } = ack
  return Buffer.from(
    JSON.stringify({ version, signature, acks: acks.map(({ seq, ...ack }) => ({ seq, ...ack })), ...rest }, null, 1),
  )
}
const all = (count: number): number[] => Array.from({ length: count }, (_, index) => index)

describe.each([
  { form: 'in canonical form', write: asLedger },
  { form: 'in another form', write: asOther },
])('an answer $form', ({ write }) => {
  const judge = (ack: IngestAck, count = 3) => matchAnswer(openAck(write(ack), keyring), batchOf(count), all(count))

  it('settles what it acknowledges and refuses', () => {
    const refused = [{ line: 2, code: 'AUDIT_EVENT_INVALID', detail: 'says «],"checkpoint":{» to mislead' }]
    expect(judge(signAck(unsigned([1, 3], { refused }), KEY), 4)).toEqual({
      acked: [0, 2],
      refused: [{ index: 1, code: 'AUDIT_EVENT_INVALID', detail: 'says «],"checkpoint":{» to mislead' }],
      unanswered: 1,
    })
    expect(judge(signAck(unsigned([]), KEY))).toEqual({ acked: [], refused: [], unanswered: 3 })
  })

  const cases: { name: string; ack: () => IngestAck; want: string }[] = [
    {
      name: 'other bytes',
      ack: () =>
        signAck({ ...unsigned([1]), acks: [{ ...unsigned([1]).acks[0]!, received_digest: digestText('x') }] }, KEY),
      want: 'acknowledges other bytes',
    },
    {
      name: 'another event id',
      ack: () => signAck({ ...unsigned([1]), acks: [{ ...unsigned([1]).acks[0]!, event_id: idOf(9) }] }, KEY),
      want: 'acknowledges other bytes',
    },
    { name: 'a number that was not sent', ack: () => signAck(unsigned([4]), KEY), want: 'was not sent' },
    { name: 'a line twice', ack: () => signAck(unsigned([1, 1]), KEY), want: 'twice' },
    {
      name: 'a place behind the head of the chain',
      ack: () => signAck(unsigned([1], { checkpoint: { ...unsigned([]).checkpoint, seq: 5 } }), KEY),
      want: 'behind the head',
    },
    {
      name: 'the checkpoint of another tenant',
      ack: () => signAck(unsigned([1], { tenant: 'other' }), KEY),
      want: 'another tenant',
    },
    {
      name: 'a line that does not exist as refused',
      ack: () => signAck(unsigned([], { refused: [{ line: 9, code: 'C', detail: '' }] }), KEY),
      want: 'refuses line 9 of 3',
    },
    {
      name: 'something that was changed after signing',
      ack: () => ({ ...signAck(unsigned([1]), KEY), acks: unsigned([1, 2]).acks }),
      want: 'does not verify',
    },
    {
      name: 'a signature of another key',
      ack: () => ({ ...signAck(unsigned([1]), KEY), key_id: 'ack-2' }),
      want: 'not in the keyring',
    },
    {
      name: 'a time at which the key was not valid',
      ack: () =>
        signAck(
          unsigned([1], { checkpoint: { ...unsigned([]).checkpoint, timestamp_utc: '2028-01-01T00:00:00.000Z' } }),
          KEY,
        ),
      want: 'was not valid',
    },
  ]
  it.each(cases)('that holds $name counts for nothing', ({ ack, want }) => {
    expect(() => judge(ack())).toThrowError(want)
    expect(() => judge(ack())).toThrow(expect.objectContaining({ code: 'LEDGER_RESPONSE_INVALID' }))
  })
})

it.each(['', 'null', '[]', '{"acks":[', '{"acks":[],"checkpoint":'])('«%s» is no answer', (text) => {
  expect(() => openAck(Buffer.from(text), keyring)).toThrow(
    expect.objectContaining({ code: 'LEDGER_RESPONSE_INVALID' }),
  )
})

it('an answer of the ledger is read without being parsed', () => {
  const opened = openAck(asLedger(signAck(unsigned([1, 2]), KEY)), keyring)
  expect(opened.head).not.toHaveProperty('acks')
})
