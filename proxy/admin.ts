import Fastify, { type FastifyInstance } from 'fastify'
import type { AppProbes } from '#core/injection/app-probe.ts'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'
import { appProbeRoutes } from './probes.ts'

export type ReadinessCheck = { readonly name: string; ready(): boolean }

/**
 * The listener for the platform: `/livez` (the process answers), `/readyz` (bundle, key, session and a writable spool: each by name,
 * so that a probe's message says what is missing) and `/metrics`. Never on a channel of the data path.
 */
export function buildAdminApp(deps: {
  registry: MetricsRegistry
  checks: readonly ReadinessCheck[]
  draining: () => boolean
  /** Probes of the application that the kubelet asks for here (capture `redirect`). */
  probes?: AppProbes
}): FastifyInstance {
  const app = Fastify({ logger: false, forceCloseConnections: true })
  app.get('/livez', (_request, reply) => reply.type('text/plain').send('ok\n'))
  app.get('/readyz', (_request, reply) => {
    const failed = deps.checks.filter((check) => !check.ready()).map((check) => check.name)
    if (deps.draining()) failed.push('draining')
    return reply
      .code(failed.length === 0 ? 200 : 503)
      .type('text/plain')
      .send(failed.length === 0 ? 'ready\n' : `not ready: ${failed.join(', ')}\n`)
  })
  app.get('/metrics', async (_request, reply) =>
    reply.type(deps.registry.contentType).send(await deps.registry.metrics()),
  )
  appProbeRoutes(app, deps.probes ?? {})
  return app
}
