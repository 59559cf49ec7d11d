import { SpanKind, SpanStatusCode } from '@opentelemetry/api'
import { newSpanId, newTraceId } from '#runtime/identifier.ts'
import { parseTraceParent, type TraceParent } from '#core/trace/traceparent.ts'
import type { Tracing } from '#runtime/telemetry/tracing.ts'
import type { ExchangeContext } from '../exchange/context.ts'

/** The trace that an exchange belongs to. `spanId` is this proxy's own span, the upstream's parent. */
export type IncomingTrace = {
  readonly traceId: string
  readonly spanId: string
  readonly parent: TraceParent | null
  readonly link: TraceParent | null
}

export type RequestTracing = {
  accept(traceparent: string | string[] | undefined, trusted: boolean): IncomingTrace
  /** Null where no spans are collected. */
  start(incoming: IncomingTrace, context: ExchangeContext): { end(status: number): void } | null
}

/** A trusted `traceparent` is continued; anybody else's is linked only, so that no outsider writes into our traces. */
export function createRequestTracing(tracing: Tracing): RequestTracing {
  return {
    accept(traceparent, trusted) {
      const parent = typeof traceparent === 'string' ? parseTraceParent(traceparent) : null
      if (parent !== null && trusted) return { traceId: parent.traceId, spanId: newSpanId(), parent, link: null }
      return { traceId: newTraceId(), spanId: newSpanId(), parent: null, link: parent }
    },
    start(incoming, context) {
      if (!tracing.enabled) return null
      const span = tracing.startSpan(context.method, {
        traceId: incoming.traceId,
        spanId: incoming.spanId,
        kind: SpanKind.SERVER,
        ...(incoming.parent === null ? {} : { parentId: incoming.parent.parentId }),
        links: incoming.link === null ? [] : [incoming.link],
        attributes: {
          'http.request.method': context.method,
          'url.path': context.path,
          'signet.request_id': context.requestId,
          'signet.channel': context.channel,
          'signet.mode': context.mode,
          'signet.tenant': context.tenant,
          'signet.bundle_revision': context.policy.revision,
        },
      })
      return {
        end(status) {
          span.setAttribute('http.response.status_code', status)
          if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR })
          span.end()
        },
      }
    },
  }
}
