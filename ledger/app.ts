import { randomBytes } from 'node:crypto'
import {
  fastify,
  LogController,
  type FastifyBaseLogger,
  type FastifyHttpOptions,
  type FastifyHttpsOptions,
  type FastifyInstance,
} from 'fastify'
import type { Server } from 'node:http'
import type { Server as HttpsServer } from 'node:https'
import type { TlsOptions } from 'node:tls'
import { Counter, Histogram } from 'prom-client'
import { STAMP_ROOT_HEADER } from '#core/identity/exchange.ts'
import { useProblemResponses } from '#runtime/http/problem.ts'
import { uuidV7 } from '#runtime/identifier.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'
import type { LedgerKeys } from './keys.ts'
import { createReadiness } from './readiness.ts'
import { takeRawBodies } from './routes/body.ts'
import { exportRoutes } from './routes/export.ts'
import { healthRoutes } from './routes/health.ts'
import { ingestRoutes } from './routes/ingest.ts'
import { issueRoutes } from './routes/issue.ts'
import { journeyRoutes } from './routes/journey.ts'
import { logsRoutes } from './routes/logs.ts'
import { subjectRoutes } from './routes/subjects.ts'
import { treeRoutes } from './routes/tree.ts'
import { verifyRoutes } from './routes/verify.ts'
import { writeRoutes } from './routes/write.ts'
import { createSequencer, type Sequencer } from './sequencer.ts'
import { createSessions, type Sessions } from './sessions.ts'

export type LedgerDeps = {
  readonly wall: Pool
  readonly work: Pool
  readonly keys: LedgerKeys
  readonly authenticator: Authenticator
  readonly registry: MetricsRegistry
  readonly log: Logger
  readonly clock: () => Date
  /** Name of the log in its checkpoints. */
  readonly origin: string
  /** Names the installation in certificates. */
  readonly trustDomain: string
  /** TLS options of `https.createServer`; plain HTTP where left out. */
  readonly tls?: TlsOptions
}

export type LedgerApp = {
  readonly http: FastifyInstance
  readonly sessions: Sessions
  readonly sequencer: Sequencer
  /** Ends when what was taken in is recorded. */
  idle(): Promise<void>
}

/** A client that takes longer to send its request is cut off (408). */
const REQUEST_TIMEOUT_MS = 30_000
const RETRY_AFTER_SECONDS = 1

export function buildApp(deps: LedgerDeps): LedgerApp {
  const { wall, work, keys, authenticator, registry, log, clock, origin, trustDomain } = deps
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
  // Node takes the longer of the two for the whole request.
  const limits = { headersTimeout: REQUEST_TIMEOUT_MS, connectionsCheckingInterval: REQUEST_TIMEOUT_MS }
  const options = {
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: () => uuidV7(),
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionTimeout: 120_000,
    keepAliveTimeout: 72_000,
    bodyLimit: 64 * 1024,
    routerOptions: { maxParamLength: 2_100 },
    return503OnClosing: true,
    forceCloseConnections: 'idle',
  } as const satisfies FastifyHttpOptions<Server> & Partial<FastifyHttpsOptions<HttpsServer>>
  // The two differ in the type of their server only, of which nothing here makes use.
  const http: FastifyInstance =
    deps.tls === undefined
      ? fastify({ ...options, http: limits })
      : fastify({ ...options, https: { ...deps.tls, ...limits } })
  http.server.maxConnections = 1_024
  useProblemResponses(http)
  takeRawBodies(http)
  http.addHook('onSend', async (_request, reply, payload) => {
    const root = keys.stampRoot(clock())
    if (root !== null) reply.header(STAMP_ROOT_HEADER, root.keyId)
    if (reply.statusCode === 503) reply.header('retry-after', RETRY_AFTER_SECONDS)
    return payload
  })
  healthRoutes(http, { readiness: createReadiness({ wall, work, keys, clock }), registry })
  const onRefused = (code: string): void => refused.inc({ code })
  ingestRoutes(http, { authenticator, keys, sequencer, sessions, onRefused })
  writeRoutes(http, { authenticator, keys, sequencer, onRefused })
  issueRoutes(http, { authenticator, keys, sequencer, clock, trustDomain })
  logsRoutes(http, { authenticator, wall, keys })
  subjectRoutes(http, { authenticator, wall })
  exportRoutes(http, { authenticator, wall, work, keys, sequencer, clock, origin })
  verifyRoutes(http, { authenticator, wall, keys, origin })
  journeyRoutes(http, { authenticator, wall, keys })
  treeRoutes(http, { authenticator, wall, keys, origin })

  return {
    http,
    sessions,
    sequencer,
    async idle() {
      await sequencer.idle()
      await sessions.idle()
    },
  }
}
