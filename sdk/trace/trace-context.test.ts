import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { childOf, newTrace, traceHeaders, traceOf, traceOfJob, withTrace } from './trace-context.ts'

const PARENT = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
const FIELDS = { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', parentId: '00f067aa0ba902b7', flags: 1 }

describe('traceOf', () => {
  test.each([
    { name: 'HTTP headers', headers: { traceparent: PARENT, 'x-request-id': 'r1' } },
    { name: 'headers of kafkajs', headers: { traceparent: Buffer.from(PARENT), 'X-Request-Id': Buffer.from('r1') } },
    {
      name: 'a map of bytes',
      headers: new Map([
        [Buffer.from('traceparent'), Buffer.from(PARENT)],
        [Buffer.from('x-request-id'), Buffer.from('r1')],
      ]),
    },
  ])('reads $name', ({ headers }) => {
    expect(traceOf(headers)).toEqual({ ...FIELDS, requestId: 'r1' })
  })

  test.each([
    { name: 'nothing', headers: {} },
    { name: 'another form', headers: { traceparent: 'x' } },
    { name: 'zeros', headers: { traceparent: `00-${'0'.repeat(32)}-00f067aa0ba902b7-01` } },
    { name: 'two of them', headers: { traceparent: PARENT, Traceparent: PARENT } },
    { name: 'a list', headers: { traceparent: [PARENT] } },
  ])('has null for $name', ({ headers }) => {
    expect(traceOf(headers)).toBeNull()
  })

  test.each(['', 'a b', 'é', 'x'.repeat(513), '\n'])('gives a request id of its own for %j', (requestId) => {
    expect(traceOf({ traceparent: PARENT, 'x-request-id': requestId })?.requestId).toMatch(/^[0-9a-f-]{36}$/)
  })

  test('takes anything', () => {
    fc.assert(fc.property(fc.anything(), (value) => void traceOfJob(value)))
    fc.assert(fc.property(fc.object(), (value) => void traceOf(value)))
  })
})

test('a trace comes back from headers and from a job, also as JSON; a child is another span of it', () => {
  const trace = newTrace()
  expect(traceOf(traceHeaders(trace))).toEqual(trace)
  const job = JSON.parse(JSON.stringify(withTrace({ report: 7 }, trace))) as unknown
  expect(traceOfJob(job)).toEqual(trace)
  expect(job).toMatchObject({ report: 7 })
  const child = childOf(trace)
  expect(child).toEqual({ ...trace, parentId: expect.not.stringMatching(trace.parentId) as string })
})
