import { afterAll, beforeAll, expect, test } from 'vitest'
import { ledgerRecorder } from '#sdk/audit/ledger-recorder.ts'
import { withModelRun } from '#sdk/run/model-run.ts'
import { newTrace, traceHeaders, traceOf } from '#sdk/trace/trace-context.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { createClient } from '#test/support/producer.ts'

let stack: LedgerStack
beforeAll(async () => {
  stack = await startLedgerStack()
})
afterAll(() => stack.stop())

test('a model run is in the chain of a real ledger, as one trace that a message handed on', async () => {
  const url = stack.ledgers[0]?.url ?? ''
  const record = ledgerRecorder({ url, token: () => stack.token('proxy') })
  const trace = traceOf(traceHeaders(newTrace()))
  if (trace === null) throw new Error('the trace did not come through')
  const about = {
    actor: 'svc/credit-risk',
    tenant: 'acme',
    resource: 'reports/credit-risk',
    modelVersion: 'score-7',
    datasetIds: ['urn:acme:loans@sha256:ab'],
    trace,
  }
  await withModelRun({ record }, about, async (run) => {
    await run.ingest(() => ({ result: 0, controlTotals: { rows: 1200 } }))
    await run.transform(() => ({ result: 0, controlTotals: { rows: 1200, sum: 99.5 } }))
    await run.validate(() => ({ result: 0 }))
    await run.approve(() => ({ result: 0 }))
    await run.publish(() => ({ result: 0 }))
  })
  const items = await createClient(url, stack.token('proxy')).all(`&trace_id=${trace.traceId}`)
  expect(items.map(({ event }) => event.stage).toReversed()).toEqual([
    'ingest',
    'transform',
    'validate',
    'approve',
    'publish',
  ])
  expect(items.at(-2)?.event.context).toMatchObject({
    model_version: 'score-7',
    control_totals: { rows: 1200, sum: 99.5 },
  })
  await expect(
    ledgerRecorder({ url, token: () => 'of-nobody' })({ ...items[0]?.event } as never),
  ).rejects.toMatchObject({ code: 'LEDGER_REFUSED' })
})
