import type { ServerOptions } from 'node:https'
import { fastify, LogController, type FastifyBaseLogger, type FastifyInstance, type FastifyReply } from 'fastify'
import { Counter, Histogram } from 'prom-client'
import { GROUP } from '#core/rule/model.ts'
import { CHECKS_AT_ONCE } from '#engine/compile/opa-memory.ts'
import { answerFrameworkError, problemOf, useProblemResponses } from '#runtime/http/problem.ts'
import { uuidV7 } from '#runtime/identifier.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'
import { createBigBodies } from './big-bodies.ts'
import { boundIdleConnections } from './idle-connections.ts'
import { reviewRetention, reviewRule, type ObjectReviewDeps } from './objects.ts'
import { reviewPod, type Asked, type InjectionResult, type PodReviewDeps } from './pods.ts'
import { readReview, reviewResponse, type AdmissionRequest, type ReviewedResource, type Verdict } from './review.ts'
import { createTurnstile } from './turnstile.ts'

export type WebhooksDeps = PodReviewDeps &
  ObjectReviewDeps & {
    readonly registry: MetricsRegistry
    readonly log: Logger
    readonly monotonicMs: () => number
    /** Certificate and key, and for client certificates `ca` and `requestCert`; without them it is plain HTTP, for tests. */
    readonly https?: ServerOptions
    /** Rules that wait to be checked, and that do for one namespace. Default 128 and 32. */
    readonly maxWaitingChecks?: number
    readonly maxWaitingChecksEach?: number
  }

const POD: ReviewedResource = { group: '', resource: 'pods' }
const RULE: ReviewedResource = { group: GROUP, resource: 'compliancerules' }
const RETENTION: ReviewedResource = { group: GROUP, resource: 'retentionpolicies' }

/** The API server takes objects of 3 MiB; a review of an update holds two. */
const MAX_REVIEW_BYTES = 7 * 1_048_576
const MAX_BYTES_UNDER_WAY = 64 * 1_048_576
/** Nearly all are smaller, and never wait for the big ones. */
const SMALL_BYTES = 262_144
const REQUEST_TIMEOUT_MS = 10_000
/** The API server waits for ten seconds, half of which a check may take. */
const MAX_CHECK_WAIT_MS = 4_000
const HANDSHAKE_TIMEOUT_MS = 5_000
/** The API server has some; half of the places are kept for requests that have come. */
const MAX_IDLE_CONNECTIONS = 128
const WEBHOOKS = ['mutate-pods', 'validate-rules', 'validate-retention'] as const
type Webhook = (typeof WEBHOOKS)[number]

/**
 * The admission webhooks: `POST /mutate-pods` (and below it `/required`, `/namespaces`, `/pods`: which webhook matched),
 * `/validate-rules`, `/validate-retention`. A review changes nothing but its answer, so that a forged one gains nothing: it is
 * judged by its form, counted, and costs a bounded amount of work.
 */
export function buildWebhooksApp(deps: WebhooksDeps): FastifyInstance {
  const metrics = createMetrics(deps.registry)
  const turnstile = createTurnstile({
    // One more is the operator's own namespace's.
    maxRunning: CHECKS_AT_ONCE - 1,
    maxWaiting: deps.maxWaitingChecks ?? 128,
    maxWaitingEach: deps.maxWaitingChecksEach ?? 32,
    maxWaitMs: MAX_CHECK_WAIT_MS,
    first: deps.operatorNamespace,
    monotonicMs: deps.monotonicMs,
  })
  const objects: ObjectReviewDeps = {
    ...deps,
    checkRule: (rule, namespace) => turnstile.run(namespace, () => deps.checkRule(rule, namespace)),
  }
  const logger: FastifyBaseLogger = deps.log
  const app = fastify({
    ...(deps.https === undefined ? {} : { https: { handshakeTimeout: HANDSHAKE_TIMEOUT_MS, ...deps.https } }),
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: () => uuidV7(),
    frameworkErrors: answerFrameworkError,
    requestTimeout: REQUEST_TIMEOUT_MS,
    http: { headersTimeout: REQUEST_TIMEOUT_MS, connectionsCheckingInterval: REQUEST_TIMEOUT_MS },
    keepAliveTimeout: 72_000,
    bodyLimit: MAX_REVIEW_BYTES,
    exposeHeadRoutes: false,
    forceCloseConnections: 'idle',
  } as object) as unknown as FastifyInstance
  app.server.maxConnections = 2 * MAX_IDLE_CONNECTIONS
  boundIdleConnections(app.server, MAX_IDLE_CONNECTIONS)
  useProblemResponses(app)
  // Bytes, for a strict parser of our own; no other type has one, and is refused.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))

  const bigBodies = createBigBodies(MAX_BYTES_UNDER_WAY, deps.monotonicMs)
  app.addHook('onRequest', async (request, reply) => {
    const declared = Number(request.headers['content-length'] ?? MAX_REVIEW_BYTES)
    const bytes = Math.min(Number.isNaN(declared) ? MAX_REVIEW_BYTES : declared, MAX_REVIEW_BYTES)
    if (bytes > SMALL_BYTES) bigBodies.take(bytes, request.raw, reply.raw)
  })

  const answer = async (
    webhook: Webhook,
    resource: ReviewedResource,
    body: unknown,
    reply: FastifyReply,
    judge: (request: AdmissionRequest) => Verdict | Promise<Verdict>,
  ): Promise<FastifyReply> => {
    const began = deps.monotonicMs()
    const request = readReview(body instanceof Uint8Array ? body : new Uint8Array(), resource)
    const verdict = await judge(request)
    metrics.reviews.inc({ webhook, result: verdict.allowed ? 'allowed' : 'denied' })
    metrics.seconds.observe({ webhook }, (deps.monotonicMs() - began) / 1_000)
    if (!verdict.allowed)
      deps.log.info({ webhook, namespace: request.namespace, name: request.name, message: verdict.message }, 'refused')
    return reply.type('application/json').send(Buffer.from(JSON.stringify(reviewResponse(request.uid, verdict))))
  }
  // What is no review of ours: counted before the problem document says why.
  app.addHook('onError', async (request, _reply, error) => {
    const webhook = WEBHOOKS.find((name) => request.url.startsWith(`/${name}`))
    if (webhook === undefined) return
    const { status, code } = problemOf(error)
    metrics.reviews.inc({ webhook, result: status >= 500 ? 'failed' : 'malformed' })
    if (status < 500) deps.log.warn({ webhook, code, peer: request.ip }, 'a review that the API server would not send')
  })

  const injection = (path: string, asked: Asked | null): void => {
    app.post(path, (request, reply) =>
      answer('mutate-pods', POD, request.body, reply, (review) => {
        const { verdict, result } = reviewPod(review, asked, deps)
        metrics.injections.inc({ result })
        if (result === 'failed')
          deps.log.warn({ namespace: review.namespace, warnings: verdict.warnings }, 'a pod was not injected')
        return verdict
      }),
    )
  }
  injection('/mutate-pods', null)
  for (const asked of ['required', 'namespaces', 'pods'] as const) injection(`/mutate-pods/${asked}`, asked)
  app.post('/validate-rules', (request, reply) =>
    answer('validate-rules', RULE, request.body, reply, (review) => reviewRule(review, objects)),
  )
  app.post('/validate-retention', (request, reply) =>
    answer('validate-retention', RETENTION, request.body, reply, (review) => reviewRetention(review, objects)),
  )
  return app
}

function createMetrics(registry: MetricsRegistry) {
  const registers = [registry]
  const reviews = new Counter({
    name: 'signet_webhook_reviews',
    help: 'Admission reviews by webhook and result; malformed: nothing that the API server sends',
    labelNames: ['webhook', 'result'] as const,
    registers,
  })
  const seconds = new Histogram({
    name: 'signet_webhook_seconds',
    help: 'Time of one admission review',
    labelNames: ['webhook'] as const,
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
    registers,
  })
  const injections = new Counter({
    name: 'signet_injections',
    help: 'Pods that the API server sent, by what became of them',
    labelNames: ['result'] as const,
    registers,
  })
  for (const webhook of WEBHOOKS)
    for (const result of ['allowed', 'denied', 'malformed', 'failed']) reviews.inc({ webhook, result }, 0)
  const results: InjectionResult[] = ['injected', 'unchanged', 'skipped', 'refused', 'failed']
  for (const result of results) injections.inc({ result }, 0)
  return { reviews, seconds, injections }
}
