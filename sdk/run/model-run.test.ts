import { describe, expect, test } from 'vitest'
import type { AuditEvent } from '#core/audit/event.ts'
import { checkAuditEvent } from '#core/audit/validate.ts'
import { newTrace } from '../trace/trace-context.ts'
import { withModelRun, type ModelRun, type RunAbout } from './model-run.ts'

const ABOUT: RunAbout = {
  actor: 'svc/credit-risk',
  tenant: 'acme',
  resource: 'reports/credit-risk',
  modelVersion: 'score-7',
  datasetIds: ['urn:acme:loans@sha256:ab'],
  region: 'eu',
}
function recorder() {
  const events: AuditEvent[] = []
  return { events, record: async (event: AuditEvent) => void events.push(checkAuditEvent(event)) }
}
const ok = async () => ({ result: 1 })

describe('withModelRun', () => {
  test('leaves five events of one trace, each before the next step begins', async () => {
    const { events, record } = recorder()
    const trace = newTrace()
    let nowMs = Date.UTC(2026, 10, 25)
    const result = await withModelRun({ record, now: () => (nowMs += 5) }, { ...ABOUT, trace }, async (run) => {
      const rows = await run.ingest(async () => ({ result: [1, 2, 3], controlTotals: { rows: 3, amount: 6 } }))
      const sum = await run.transform(() => ({ result: rows.length, controlTotals: { rows: 3 } }))
      expect(events.map(({ stage }) => stage)).toEqual(['ingest', 'transform'])
      await run.validate(ok)
      await run.approve(ok)
      return run.publish(async (span) => {
        expect(span.traceId).toBe(trace.traceId)
        return { result: sum, stampHash: `sha256:${'0'.repeat(64)}` }
      })
    })
    expect(result).toBe(3)
    expect(events.map(({ event_type }) => event_type)).toEqual(
      ['ingest', 'transform', 'validate', 'approve', 'publish'].map((stage) => `model_run.${stage}`),
    )
    expect(new Set(events.map((event) => event.trace_id + event.request_id + event.resource_id)).size).toBe(1)
    expect(events[0]).toMatchObject({
      trace_id: trace.traceId,
      request_id: trace.requestId,
      outcome: 'success',
      latency_ms: 10,
      region: 'eu',
      context: { model_version: 'score-7', dataset_ids: ABOUT.datasetIds, control_totals: { rows: 3, amount: 6 } },
    })
    expect(events[4]?.stamp_hash).toBe(`sha256:${'0'.repeat(64)}`)
  })

  test('a step that fails is recorded without its message, and nothing follows', async () => {
    const { events, record } = recorder()
    const run = withModelRun({ record }, ABOUT, async (run) => {
      await run.ingest(ok)
      await run.transform(async () => Promise.reject(new TypeError('Jane Doe has no account'))).catch(() => {})
      await run.validate(ok)
    })
    await expect(run).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(events.map(({ stage, outcome }) => [stage, outcome])).toEqual([
      ['ingest', 'success'],
      ['transform', 'failure'],
    ])
    expect(JSON.stringify(events)).not.toContain('Jane')
    expect(events[1]?.context).toMatchObject({ error: 'TypeError' })
  })

  test.each<{ name: string; body: (run: ModelRun) => Promise<unknown>; want: string }>([
    {
      name: 'publishing what nobody approved',
      body: async (run) => {
        await run.ingest(ok)
        await run.publish(ok)
      },
      want: 'CONFLICT',
    },
    {
      name: 'a step twice',
      body: async (run) => {
        await run.ingest(ok)
        await run.ingest(ok)
      },
      want: 'CONFLICT',
    },
    {
      name: 'two steps at once',
      body: async (run) => Promise.all([run.ingest(ok), run.transform(ok)]),
      want: 'CONFLICT',
    },
    {
      name: 'totals that are none',
      body: async (run) => run.ingest(async () => ({ result: 1, controlTotals: { rows: Number.NaN } })),
      want: 'CONFIG_INVALID',
    },
  ])('refuses $name', async ({ body, want }) => {
    await expect(withModelRun({ record: recorder().record }, ABOUT, body)).rejects.toMatchObject({ code: want })
  })

  test('what cannot be recorded stops the run; a failure as well shows both', async () => {
    const record = async () => Promise.reject(new Error('no ledger'))
    let published = false
    await expect(
      withModelRun({ record }, ABOUT, async (run) => {
        await run.ingest(ok)
        published = true
      }),
    ).rejects.toThrow('no ledger')
    expect(published).toBe(false)
    const both = withModelRun({ record }, ABOUT, (run) => run.ingest(async () => Promise.reject(new Error('no data'))))
    await expect(both).rejects.toMatchObject({ errors: [{ message: 'no data' }, { message: 'no ledger' }] })
  })
})
