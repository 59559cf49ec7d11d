import type { FastifyInstance, FastifyReply } from 'fastify'
import { newTrace, traceOf, type TraceContext } from '../trace/trace-context.ts'
import { lineageHeaders, type Lineage } from './declare.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The trace and request id that the proxy gave; of its own where there was none. */
    signetTrace: TraceContext
  }
  interface FastifyReply {
    /** Declares what this answer was made from; may be called several times. @throws SignetError CONFIG_INVALID */
    lineage(lineage: Lineage): FastifyReply
  }
}

export type LineageOptions = {
  /** Declared of every answer, errors included, unless a route says otherwise. */
  readonly defaults?: Lineage
}

/**
 * A fastify plugin: `reply.lineage({ … })` declares lineage to the proxy in front, `request.signetTrace` is the trace of the request.
 * Its decorators and hooks hold for the whole application.
 * @throws SignetError CONFIG_INVALID when it is registered with bad defaults
 */
export async function signetLineage(app: FastifyInstance, { defaults = {} }: LineageOptions = {}): Promise<void> {
  const always = lineageHeaders(defaults)
  app.decorateRequest('signetTrace')
  app.decorateReply('lineage', function lineage(this: FastifyReply, declared: Lineage) {
    return this.headers(lineageHeaders(declared))
  })
  app.addHook('onRequest', async (request, reply) => {
    request.signetTrace = traceOf(request.headers) ?? newTrace()
    reply.headers(always)
  })
}

// As fastify-plugin does: not only for what is registered inside.
Object.assign(signetLineage, {
  [Symbol.for('skip-override')]: true,
  [Symbol.for('fastify.display-name')]: 'signet-lineage',
})
