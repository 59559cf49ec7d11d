import { fastify, type FastifyInstance } from 'fastify'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'

/** What must hold before the replica may be sent anything; `name` says what is missing. */
export type ReadinessCheck = { readonly name: string; ready(): boolean }

/** The listener for the platform: `/livez` (the process answers), `/readyz` (what is missing, by name) and `/metrics`. */
export function buildAdminApp(deps: {
  readonly registry: MetricsRegistry
  readonly checks: readonly ReadinessCheck[]
  readonly draining: () => boolean
}): FastifyInstance {
  const app = fastify({ logger: false, forceCloseConnections: true })
  app.get('/livez', (_request, reply) => reply.type('text/plain').send('ok\n'))
  app.get('/readyz', (_request, reply) => {
    const missing = deps.checks.filter((check) => !check.ready()).map((check) => check.name)
    if (deps.draining()) missing.push('draining')
    return reply
      .code(missing.length === 0 ? 200 : 503)
      .type('text/plain')
      .send(missing.length === 0 ? 'ready\n' : `not ready: ${missing.join(', ')}\n`)
  })
  app.get('/metrics', async (_request, reply) =>
    reply.type(deps.registry.contentType).send(await deps.registry.metrics()),
  )
  return app
}
