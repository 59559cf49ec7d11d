import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, it } from 'vitest'
import { newSpanId, newTraceId } from '../identifier.ts'
import { createTracing } from './tracing.ts'

it('without an endpoint records nothing and still gives a context', async () => {
  const tracing = await createTracing({ serviceName: 'test', serviceVersion: '0', endpoint: undefined })
  const traceId = newTraceId()
  const span = tracing.startSpan('request', { traceId })
  expect(tracing.enabled).toBe(false)
  expect(span.isRecording()).toBe(false)
  expect(span.spanContext().traceId).toBe(traceId)
  span.end()
  await tracing.shutdown()
})

it('sends spans with the ids it was given to /v1/traces, links included', async () => {
  const bodies: Buffer[] = []
  const urls: (string | undefined)[] = []
  const collector = createServer((request, response) => {
    urls.push(request.url)
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      bodies.push(Buffer.concat(chunks))
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    })
  })
  await new Promise<void>((resolve) => {
    collector.listen(0, '127.0.0.1', resolve)
  })
  const { port } = collector.address() as AddressInfo
  const tracing = await createTracing({
    serviceName: 'test',
    serviceVersion: '0',
    endpoint: `http://127.0.0.1:${port}/`,
  })
  const [traceId, spanId, linked] = [newTraceId(), newSpanId(), newTraceId()]
  const links = [{ traceId: linked, parentId: newSpanId(), flags: 1 }]
  const span = tracing.startSpan('request', { traceId, spanId, links, attributes: { 'http.route': '/a' } })
  expect(span.spanContext()).toMatchObject({ traceId, spanId })
  const child = tracing.startSpan('decide', { traceId, parentId: spanId })
  expect(child.spanContext().traceId).toBe(traceId)
  expect(child.spanContext().spanId).not.toBe(spanId)
  child.end()
  span.end()
  await tracing.shutdown()
  collector.close()
  collector.closeAllConnections()

  expect(urls).toEqual(['/v1/traces'])
  const { resourceSpans } = JSON.parse(bodies[0]?.toString() ?? '') as {
    resourceSpans: {
      scopeSpans: {
        spans: { name: string; traceId: string; spanId: string; parentSpanId?: string; links?: { traceId: string }[] }[]
      }[]
    }[]
  }
  const spans = resourceSpans[0]?.scopeSpans[0]?.spans ?? []
  expect(spans.find((each) => each.name === 'request')).toMatchObject({ traceId, spanId, links: [{ traceId: linked }] })
  expect(spans.find((each) => each.name === 'decide')).toMatchObject({ traceId, parentSpanId: spanId })
})
