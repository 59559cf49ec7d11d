import { describe, expect, test } from 'vitest'
import type { AuditEvent } from '#core/audit/event.ts'
import { digestText } from '#core/crypto/digest.ts'
import { ledgerRecorder } from './ledger-recorder.ts'

const EVENT: AuditEvent = {
  event_id: '01890a5d-ac96-774b-bcce-b302099a8057',
  event_type: 'model_run.ingest',
  timestamp_utc: '2026-11-23T09:30:00.123Z',
  trace_id: '4bf92f3577b34da6a3ce929d0e0e4736',
  request_id: 'r1',
  actor: 'svc',
  tenant: 'acme',
  stage: 'ingest',
  action: 'ingest',
  resource: 'reports',
  before: null,
  after: null,
  outcome: 'success',
  latency_ms: 1,
  stamp_hash: null,
}
const ack = (body: string) => ({
  version: 1,
  tenant: 'acme',
  ack: { event_id: EVENT.event_id, received_digest: digestText(body), commitment: '0'.repeat(64), seq: 1 },
  checkpoint: { tenant: 'acme', seq: 1, hash: '0'.repeat(64), timestamp_utc: '2026-11-23T09:30:00.123Z' },
  key_id: 'k',
  signature: 'x',
})

function ledger(answers: ((body: string) => Response)[]) {
  const bodies: string[] = []
  const waits: number[] = []
  const record = ledgerRecorder({
    url: 'https://ledger.test',
    token: () => 'the-token',
    tries: 4,
    backoff: { baseMs: 100, maxMs: 250, random: () => 0.5 },
    wait: async (ms) => waits.push(ms),
    fetch: async (input, init) => {
      const request = new Request(input, init)
      expect(request.headers.get('authorization')).toBe('Bearer the-token')
      const body = await request.text()
      bodies.push(body)
      return (answers[bodies.length - 1] ?? answers.at(-1))?.(body) as Response
    },
  })
  return { record, bodies, waits }
}
const taken = (body: string) => Response.json(ack(body), { status: 201 })
const busy = () => new Response('', { status: 503 })
const gone = () => {
  throw new TypeError('fetch failed')
}

describe('ledgerRecorder', () => {
  test('sends the same bytes until they are taken, with waits that grow up to a bound', async () => {
    const { record, bodies, waits } = ledger([busy, gone, busy, taken])
    await record(EVENT)
    expect(bodies).toHaveLength(4)
    expect(new Set(bodies).size).toBe(1)
    expect(waits).toEqual([50, 100, 125])
  })

  test.each([
    { name: 'nobody there', answer: gone, want: 'LEDGER_UNREACHABLE', wantTries: 4 },
    {
      name: 'a refusal',
      answer: () => Response.json({ code: 'EVENT_ID_CONFLICT' }, { status: 409 }),
      want: 'LEDGER_REFUSED',
      wantTries: 1,
    },
    {
      name: 'an acknowledgement of something else',
      answer: (body: string) => Response.json({ ...ack(`${body} `) }, { status: 201 }),
      want: 'LEDGER_RESPONSE_INVALID',
      wantTries: 1,
    },
    {
      name: 'no acknowledgement',
      answer: () => new Response('ok', { status: 201 }),
      want: 'LEDGER_RESPONSE_INVALID',
      wantTries: 1,
    },
  ])('$name: $want', async ({ answer, want, wantTries }) => {
    const { record, bodies } = ledger([answer])
    await expect(record(EVENT)).rejects.toMatchObject({ code: want })
    expect(bodies).toHaveLength(wantTries)
  })

  test('an event that is none is not sent', async () => {
    const { record, bodies } = ledger([taken])
    await expect(record({ ...EVENT, stage: 'later' as never })).rejects.toMatchObject({ code: 'AUDIT_EVENT_INVALID' })
    expect(bodies).toEqual([])
  })
})
