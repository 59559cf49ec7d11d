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
import { answerFrameworkError, useProblemResponses } from '#runtime/http/problem.ts'
import { uuidV7 } from '#runtime/identifier.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'
import type { LedgerKeys } from './keys.ts'
import { createReadiness } from './readiness.ts'
import type { LedgerRetention } from './retention/ledger-retention.ts'
import type { Archive } from './archive/duty.ts'
import { archiveRoutes } from './routes/archive.ts'
import { takeRawBodies } from './routes/body.ts'
import { exportRoutes } from './routes/export.ts'
import { feedRoutes } from './routes/feed.ts'
import { healthRoutes } from './routes/health.ts'
import { holdRoutes } from './routes/holds.ts'
import { ingestRoutes } from './routes/ingest.ts'
import { issueRoutes } from './routes/issue.ts'
import { journeyRoutes } from './routes/journey.ts'
import { logsRoutes } from './routes/logs.ts'
import { retentionRoutes } from './routes/retention.ts'
import { stampVerdictRoutes, type StampDenial } from './routes/stamp-verdict.ts'
import { subjectRoutes } from './routes/subjects.ts'
import { treeRoutes } from './routes/tree.ts'
import { verifyRoutes } from './routes/verify.ts'
import { writeRoutes } from './routes/write.ts'
import { NO_RESIDENCY, type ResidencyPolicy } from './residency/policy.ts'
import { holdsFor } from './retention/holds.ts'
import { erasureRoutes } from './routes/erasures.ts'
import { replayRoutes } from './routes/replay.ts'
import { residencyRoutes } from './routes/residency.ts'
import { revocationRoutes } from './routes/revocations.ts'
import { createRevocations, type Revocations } from './revocation/revocations.ts'
import type { Target } from './revocation/store.ts'
import { sealingSequencer } from './seal/entries.ts'
import { createErasures, type Erasures } from './seal/erasure.ts'
import { createPersonalReader, type PersonalReader } from './seal/reader.ts'
import type { Sealer } from './seal/sealer.ts'
import { createSequencer, type Sequencer } from './sequencer.ts'
import { createSessions, type Sessions } from './sessions.ts'

export type LedgerDeps = {
  readonly wall: Pool
  readonly work: Pool
  readonly keys: LedgerKeys
  readonly authenticator: Authenticator
  /** Told at once of who was revoked, or let in again, by a call of this process. */
  readonly onRevocation?: (target: Target) => void
  /** Whose stamps nobody vouches for now. */
  readonly denyList?: StampDenial
  readonly registry: MetricsRegistry
  readonly log: Logger
  readonly clock: () => Date
  /** Name of the log in its checkpoints. */
  readonly origin: string
  /** Whom letters may go to, by domain; absent where no mail server is configured. */
  readonly mailDomains?: readonly string[]
  /** Names the installation in certificates. */
  readonly trustDomain: string
  /** For how long records are kept; all for ever, and no routes for it, where it is left out. */
  readonly retention?: LedgerRetention
  /** Seals personal fields; nothing is sealed, and nobody can be erased, where it is left out. */
  readonly sealer?: Sealer
  /** Which data this ledger may keep; all where it is left out. */
  readonly residency?: () => ResidencyPolicy
  /** Null, or left out: nothing is archived. */
  readonly archive?: () => Archive | null
  /** TLS options of `https.createServer`; plain HTTP where left out. */
  readonly tls?: TlsOptions
}

export type LedgerApp = {
  readonly http: FastifyInstance
  readonly sessions: Sessions
  readonly sequencer: Sequencer
  /** Null where nothing is sealed. */
  readonly erasures: Erasures | null
  readonly personal: PersonalReader
  readonly revocations: Revocations
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

  const chaining = createSequencer({
    wall,
    keys,
    clock,
    randomBytes,
    ...(deps.retention === undefined ? {} : { retention: deps.retention.classes }),
    onAppended: (records, durationMs) => {
      appended.inc(records)
      appendSeconds.observe(durationMs / 1000)
    },
  })
  const { sealer = null, residency = () => NO_RESIDENCY } = deps
  const sequencer = sealingSequencer(chaining, { sealer, residency, mark: keys.mark })
  const personal = createPersonalReader(sealer)
  const holdsOf = (tenant: string) => holdsFor(wall, tenant)
  const erasures =
    sealer === null
      ? null
      : createErasures({ work, wall, sealer, sequencer, mark: keys.mark, clock, holdsFor: holdsOf })
  const revocations = createRevocations({ work, sequencer, clock, onChange: deps.onRevocation ?? (() => undefined) })
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
    frameworkErrors: answerFrameworkError,
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
  healthRoutes(http, { readiness: createReadiness({ wall, work, keys, clock, sealer }), registry })
  const onRefused = (code: string): void => refused.inc({ code })
  ingestRoutes(http, { authenticator, keys, sequencer, sessions, onRefused })
  writeRoutes(http, { authenticator, keys, sequencer, onRefused })
  issueRoutes(http, { authenticator, keys, sequencer, clock, trustDomain })
  stampVerdictRoutes(http, { authenticator, keys, ...(deps.denyList === undefined ? {} : { denyList: deps.denyList }) })
  logsRoutes(http, { authenticator, wall, keys, personal })
  archiveRoutes(http, { authenticator, sequencer, archive: deps.archive ?? (() => null) })
  feedRoutes(http, { authenticator, wall, origin, personal })
  subjectRoutes(http, { authenticator, wall, personal })
  erasureRoutes(http, { authenticator, erasures })
  revocationRoutes(http, { authenticator, revocations })
  residencyRoutes(http, { authenticator, residency, origin })
  exportRoutes(http, {
    authenticator,
    wall,
    work,
    keys,
    sequencer,
    clock,
    origin,
    personal,
    mailDomains: deps.mailDomains ?? null,
  })
  const archivedSize = async () => (await deps.archive?.()?.heldSize()) ?? null
  verifyRoutes(http, { authenticator, wall, keys, origin, archivedSize })
  holdRoutes(http, { authenticator, wall, sequencer })
  if (deps.retention !== undefined)
    retentionRoutes(http, { authenticator, wall, work, sequencer, clock, ...deps.retention })
  journeyRoutes(http, { authenticator, wall, keys, personal })
  replayRoutes(http, { authenticator, wall, keys, sequencer })
  treeRoutes(http, { authenticator, wall, keys, origin })

  return {
    http,
    sessions,
    sequencer,
    erasures,
    personal,
    revocations,
    async idle() {
      await sequencer.idle()
      await sessions.idle()
    },
  }
}
