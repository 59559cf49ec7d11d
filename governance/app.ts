import type { Server } from 'node:http'
import type { Server as HttpsServer } from 'node:https'
import type { TlsOptions } from 'node:tls'
import swagger from '@fastify/swagger'
import {
  fastify,
  LogController,
  type FastifyBaseLogger,
  type FastifyHttpOptions,
  type FastifyHttpsOptions,
  type FastifyInstance,
} from 'fastify'
import { answerFrameworkError, useProblemResponses } from '#runtime/http/problem.ts'
import { uuidV7 } from '#runtime/identifier.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'
import { createAuthenticate } from './access/authenticate.ts'
import { DenialBudget } from './access/denial-budget.ts'
import type { Catalog } from './frameworks/catalog.ts'
import { createLook, type LookDeps } from './frameworks/look.ts'
import { compileValidator } from './http/validation.ts'
import type { GovernanceMetrics } from './metrics.ts'
import { createReadiness } from './readiness.ts'
import { actionRoutes } from './routes/actions.ts'
import { attemptRoutes } from './routes/attempts.ts'
import { blockRoutes } from './routes/blocks.ts'
import { bundleRoutes } from './routes/bundles.ts'
import { checklistRoutes } from './routes/checklists.ts'
import { complianceEventRoutes } from './routes/compliance-events.ts'
import { dashboardRoutes } from './routes/dashboard.ts'
import { evidenceRoutes } from './routes/evidence.ts'
import { healthRoutes } from './routes/health.ts'
import { policyRoutes } from './routes/policies.ts'
import { regulationRoutes } from './routes/regulations.ts'
import { remediationRoutes } from './routes/remediation.ts'
import { resolutionRoutes } from './routes/resolution.ts'
import { roleRoutes } from './routes/roles.ts'
import { ruleRoutes } from './routes/rules.ts'
import { scanRoutes } from './routes/scans.ts'
import { serviceAccountRoutes } from './routes/service-accounts.ts'
import { sessionRoutes } from './routes/session.ts'
import { taskRoutes } from './routes/tasks.ts'
import { tokenRoutes } from './routes/tokens.ts'
import { userRoutes } from './routes/users.ts'
import { webhookRoutes } from './routes/webhooks.ts'
import { workflowRoutes } from './routes/workflows.ts'
import type { Services } from './services.ts'

export type GovernanceDeps = {
  readonly pool: Pool
  readonly services: Services
  readonly ledger: LookDeps['ledger']
  readonly catalogs: ReadonlyMap<string, Catalog>
  readonly registry: MetricsRegistry
  readonly metrics: GovernanceMetrics
  readonly log: Logger
  readonly clock: () => Date
  /** Without it the listener speaks plain HTTP. */
  readonly tls?: TlsOptions
}

const REQUEST_TIMEOUT_MS = 30_000
const BODY_LIMIT = 256 * 1024

/** Everything but the port. */
export async function buildApp(deps: GovernanceDeps): Promise<FastifyInstance> {
  const { pool, services, ledger, catalogs, registry, metrics, log, clock } = deps
  const newId = uuidV7
  const nowMs = (): number => clock().getTime()
  const calls = {
    authenticate: createAuthenticate(pool, clock),
    denials: new DenialBudget(nowMs),
    pool,
    runner: services.runner,
    newId,
    clock,
  }

  const logger: FastifyBaseLogger = log
  const limits = { headersTimeout: REQUEST_TIMEOUT_MS, connectionsCheckingInterval: REQUEST_TIMEOUT_MS }
  const options = {
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: () => uuidV7(),
    frameworkErrors: answerFrameworkError,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionTimeout: 120_000,
    keepAliveTimeout: 72_000,
    bodyLimit: BODY_LIMIT,
    // No limit but that of the whole head: what a part may be is for its schema to say.
    routerOptions: { maxParamLength: 16_384 },
    return503OnClosing: true,
    forceCloseConnections: 'idle',
  } as const satisfies FastifyHttpOptions<Server> & Partial<FastifyHttpsOptions<HttpsServer>>
  // The two differ in the type of their server only, of which nothing here makes use.
  const app: FastifyInstance =
    deps.tls === undefined
      ? fastify({ ...options, http: limits })
      : fastify({ ...options, https: { ...deps.tls, ...limits } })
  app.server.maxConnections = 1_024
  app.setValidatorCompiler(compileValidator)
  useProblemResponses(app)
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Signet governance',
        version: '1',
        description: 'Access, policies, scans, violations, workflows and evidence.',
      },
      components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } } },
    },
  })
  app.get('/openapi.json', { schema: { hide: true } }, async (_request, reply) =>
    reply.type('application/json').send(JSON.stringify(app.swagger())),
  )
  healthRoutes(app, { readiness: createReadiness(pool, nowMs), registry })
  sessionRoutes(app, { ...calls, failures: metrics.signInFailures })
  userRoutes(app, calls)
  serviceAccountRoutes(app, calls)
  roleRoutes(app, calls)
  tokenRoutes(app, calls)
  actionRoutes(app, calls)
  policyRoutes(app, { ...calls, ...services })
  bundleRoutes(app, { ...calls, ...services })
  ruleRoutes(app, { ...calls, ...services })
  scanRoutes(app, { ...calls, ...services })
  remediationRoutes(app, { ...calls, ...services })
  workflowRoutes(app, { ...calls, ...services, catalogs })
  taskRoutes(app, calls)
  complianceEventRoutes(app, { ...calls, ...services, onViolation: (tenant) => services.resolver.touch(tenant) })
  attemptRoutes(app, { ...calls, ...services })
  blockRoutes(app, { ...calls, ...services })
  resolutionRoutes(app, { ...calls, ...services })
  webhookRoutes(app, { ...calls, ...services })
  dashboardRoutes(app, { ...calls, ledger })
  evidenceRoutes(app, { ...calls, ...services, catalogs, ledger })
  regulationRoutes(app, { ...calls, catalogs })
  checklistRoutes(app, { ...calls, catalogs, look: createLook({ pool, ledger, nowMs }) })
  return app
}
