import {
  ROOT_CONTEXT,
  trace,
  TraceFlags,
  type Attributes,
  type Span,
  type SpanContext,
  type SpanKind,
} from '@opentelemetry/api'
import { newSpanId, newTraceId } from '../identifier.ts'
import type { TraceParent } from '#core/trace/traceparent.ts'

export type SpanOptions = {
  /** The trace the span belongs to; a root span of this trace unless `parentId` is given. */
  readonly traceId: string
  readonly parentId?: string
  /** This span's own id, so that it can be sent upstream before the span ends. */
  readonly spanId?: string
  readonly kind?: SpanKind
  readonly attributes?: Attributes
  /** Contexts that are related and not continued: an untrusted `traceparent`. */
  readonly links?: readonly TraceParent[]
  /** Milliseconds since the epoch. */
  readonly startTimeMs?: number
}

/** `enabled: false` makes no span at all: ask first on hot paths. `startSpan` then gives a span that does nothing. */
export type Tracing = {
  readonly enabled: boolean
  startSpan(name: string, options: SpanOptions): Span
  /** Sends what waits (5 s at most) and stops. */
  shutdown(): Promise<void>
}

const DISABLED: Tracing = {
  enabled: false,
  startSpan: (_name, options) =>
    trace.wrapSpanContext({
      traceId: options.traceId,
      spanId: options.spanId ?? newSpanId(),
      traceFlags: TraceFlags.NONE,
    }),
  shutdown: () => Promise.resolve(),
}

/**
 * A tracer of its own (no global is set). `endpoint`: the base of an OTLP/HTTP collector, as in `OTEL_EXPORTER_OTLP_ENDPOINT`
 * (`http://collector:4318`); without it nothing is loaded and nothing is recorded. At most 2,048 spans wait; more are dropped.
 */
export async function createTracing(options: {
  serviceName: string
  serviceVersion: string
  endpoint: string | undefined
}): Promise<Tracing> {
  if (options.endpoint === undefined || options.endpoint === '') return DISABLED
  const [sdk, { OTLPTraceExporter }, { resourceFromAttributes }] = await Promise.all([
    import('@opentelemetry/sdk-trace'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
  ])
  // startSpan is synchronous, so ids can be handed to the generator for exactly the next span.
  const next: { traceId: string | undefined; spanId: string | undefined } = { traceId: undefined, spanId: undefined }
  const provider = new sdk.TracerProvider({
    resource: resourceFromAttributes({
      'service.name': options.serviceName,
      'service.version': options.serviceVersion,
    }),
    idGenerator: {
      generateTraceId: () => next.traceId ?? newTraceId(),
      generateSpanId: () => next.spanId ?? newSpanId(),
    },
    spanProcessors: [
      new sdk.BatchSpanProcessor({
        exporter: new OTLPTraceExporter({ url: `${options.endpoint.replace(/\/+$/, '')}/v1/traces` }),
      }),
    ],
  })
  const tracer = provider.getTracer(options.serviceName, options.serviceVersion)
  return {
    enabled: true,
    startSpan(name, span) {
      next.traceId = span.traceId
      next.spanId = span.spanId
      try {
        return tracer.startSpan(name, spanOptions(span), parentContext(span))
      } finally {
        next.traceId = undefined
        next.spanId = undefined
      }
    },
    async shutdown() {
      await provider.forceFlush({ timeoutMillis: 5_000 }).catch(() => undefined)
      await provider.shutdown().catch(() => undefined)
    },
  }
}

function spanOptions(span: SpanOptions): Parameters<ReturnType<typeof trace.getTracer>['startSpan']>[1] {
  return {
    ...(span.kind === undefined ? {} : { kind: span.kind }),
    ...(span.attributes === undefined ? {} : { attributes: span.attributes }),
    ...(span.startTimeMs === undefined ? {} : { startTime: span.startTimeMs }),
    links: (span.links ?? []).map((link) => ({ context: remoteContext(link.traceId, link.parentId, link.flags) })),
  }
}

function parentContext(span: SpanOptions): typeof ROOT_CONTEXT {
  if (span.parentId === undefined) return ROOT_CONTEXT
  return trace.setSpanContext(ROOT_CONTEXT, remoteContext(span.traceId, span.parentId, TraceFlags.SAMPLED))
}

function remoteContext(traceId: string, spanId: string, traceFlags: number): SpanContext {
  return { traceId, spanId, traceFlags, isRemote: true }
}
