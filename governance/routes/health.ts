import type { FastifyInstance } from 'fastify'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'
import type { Readiness } from '../readiness.ts'

/** For the platform, without a token: nothing of any tenant shows here. */
export function healthRoutes(app: FastifyInstance, deps: { readiness: Readiness; registry: MetricsRegistry }): void {
  const schema = { hide: true }
  for (const url of ['/livez', '/live'])
    app.get(url, { schema }, async (_request, reply) => reply.type('application/json').send('{"status":"ok"}'))
  for (const url of ['/readyz', '/ready'])
    app.get(url, { schema }, async (_request, reply) => {
      const { ready, checks } = await deps.readiness()
      return reply
        .status(ready ? 200 : 503)
        .type('application/json')
        .header('cache-control', 'no-store')
        .send(JSON.stringify({ status: ready ? 'ready' : 'not ready', checks }))
    })
  app.get('/metrics', { schema }, async (_request, reply) =>
    reply.type(deps.registry.contentType).send(await deps.registry.metrics()),
  )
}
