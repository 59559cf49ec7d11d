import { randomBytes } from 'node:crypto'
import { fastify, LogController, type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import { Counter, Histogram } from 'prom-client'
import { useProblemResponses } from '#runtime/http/problem.ts'
import { uuidV7 } from '#runtime/identifier.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'
import type { LedgerKeys } from './keys.ts'
import { createReadiness } from './readiness.ts'
import { healthRoutes } from './routes/health.ts'
import { ingestRoutes } from './routes/ingest.ts'
import { logsRoutes } from './routes/logs.ts'
import { verifyRoutes } from './routes/verify.ts'
import { createSequencer } from './sequencer.ts'
import { createSessions, type Sessions } from './sessions.ts'

export type LedgerDeps = {
  readonly wall: Pool
  readonly work: Pool
  readonly keys: LedgerKeys
  readonly authenticator: Authenticator
  readonly registry: MetricsRegistry
  readonly log: Logger
  readonly clock: () => Date
}

export type LedgerApp = {
  readonly http: FastifyInstance
  readonly sessions: Sessions
  /** Ends when what was taken in is recorded. */
  idle(): Promise<void>
}

/** A client that takes longer to send its request is cut off (408). */
const REQUEST_TIMEOUT_MS = 30_000
const RETRY_AFTER_SECONDS = 1

export function buildApp(deps: LedgerDeps): LedgerApp {
  const { wall, work, keys, authenticator, registry, log, clock } = deps
  const appended = new Counter({
    name: 'signet_ledger_records',
    help: 'Records appended to the chains.',
    registers: [registry],
  })
  const refused = new Counter({
    name: 'signet_ledger_items_refused',
    help: 'Items of producers that were refused, by code.',
    labelNames: ['code'] as const,
    registers: [registry],
  })
  const appendSeconds = new Histogram({
    name: 'signet_ledger_append_seconds',
    help: 'Time of one appending transaction.',
    buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5],
    registers: [registry],
  })

  const sequencer = createSequencer({
    wall,
    keys,
    clock,
    randomBytes,
    onAppended: (records, durationMs) => {
      appended.inc(records)
      appendSeconds.observe(durationMs / 1000)
    },
  })
  const sessions = createSessions({
    sequencer,
    wall,
    work,
    clock,
    onProgressLost: (error) =>
      log.warn({ error }, 'session cursors were not saved; the next start sets them by the wall'),
  })

  const logger: FastifyBaseLogger = log
  const http = fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: () => uuidV7(),
    requestTimeout: REQUEST_TIMEOUT_MS,
    // Node takes the longer of the two for the whole request.
    http: { headersTimeout: REQUEST_TIMEOUT_MS, connectionsCheckingInterval: REQUEST_TIMEOUT_MS },
    connectionTimeout: 120_000,
    keepAliveTimeout: 72_000,
    bodyLimit: 64 * 1024,
    routerOptions: { maxParamLength: 2_100 },
    return503OnClosing: true,
    forceCloseConnections: 'idle',
  })
  http.server.maxConnections = 1_024
  useProblemResponses(http)
  http.addHook('onSend', async (_request, reply, payload) => {
    if (reply.statusCode === 503) reply.header('retry-after', RETRY_AFTER_SECONDS)
    return payload
  })
  healthRoutes(http, { readiness: createReadiness({ wall, work, keys, clock }), registry })
  ingestRoutes(http, { authenticator, keys, sequencer, sessions, onRefused: (code) => refused.inc({ code }) })
  logsRoutes(http, { authenticator, wall })
  verifyRoutes(http, { authenticator, wall, keys })

  return {
    http,
    sessions,
    async idle() {
      await sequencer.idle()
      await sessions.idle()
    },
  }
}
