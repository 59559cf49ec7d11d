import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export type ReceivedSpan = {
  traceId: string
  spanId: string
  parentSpanId?: string
  name: string
  attributes: Record<string, unknown>
  links: { traceId: string; spanId: string }[]
  status: number
}

/** Takes OTLP/HTTP in JSON (https://opentelemetry.io/docs/specs/otlp/#otlphttp) and keeps the spans. */
export async function startOtlpReceiver(): Promise<{ url: string; spans: ReceivedSpan[]; close(): Promise<void> }> {
  const spans: ReceivedSpan[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      if (request.url === '/v1/traces') spans.push(...readSpans(JSON.parse(Buffer.concat(chunks).toString()) as Traces))
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    close: () => {
      server.closeAllConnections()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}

type Value = { stringValue?: string; intValue?: number | string; boolValue?: boolean }
type Span = Omit<ReceivedSpan, 'attributes' | 'status' | 'links'> & {
  attributes?: { key: string; value: Value }[]
  links?: { traceId: string; spanId: string }[]
  status?: { code?: number }
}
type Traces = { resourceSpans?: { scopeSpans?: { spans?: Span[] }[] }[] }

function readSpans(traces: Traces): ReceivedSpan[] {
  return (traces.resourceSpans ?? [])
    .flatMap(({ scopeSpans = [] }) => scopeSpans)
    .flatMap(({ spans = [] }) => spans)
    .map((span) => ({
      traceId: span.traceId,
      spanId: span.spanId,
      ...(span.parentSpanId === undefined || span.parentSpanId === '' ? {} : { parentSpanId: span.parentSpanId }),
      name: span.name,
      attributes: Object.fromEntries(
        (span.attributes ?? []).map(({ key, value }) => [
          key,
          value.stringValue ?? value.boolValue ?? Number(value.intValue),
        ]),
      ),
      links: (span.links ?? []).map(({ traceId, spanId }) => ({ traceId, spanId })),
      status: span.status?.code ?? 0,
    }))
}
