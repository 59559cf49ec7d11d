import type { FastifyInstance } from 'fastify'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'

/** What has to be so for the ledger to work; `failing` says in a few words what is not. */
export type Readiness = { check(): Promise<{ ready: boolean; checks: Record<string, string> }> }

/** For the platform, without a token: nothing of any tenant shows here. */
export function healthRoutes(app: FastifyInstance, deps: { readiness: Readiness; registry: MetricsRegistry }): void {
  app.get('/livez', async (_request, reply) => reply.type('application/json').send('{"status":"ok"}'))
  app.get('/readyz', async (_request, reply) => {
    const { ready, checks } = await deps.readiness.check()
    return reply
      .status(ready ? 200 : 503)
      .type('application/json')
      .header('cache-control', 'no-store')
      .send(JSON.stringify({ status: ready ? 'ready' : 'not ready', checks }))
  })
  app.get('/metrics', async (_request, reply) =>
    reply.type(deps.registry.contentType).send(await deps.registry.metrics()),
  )
}
