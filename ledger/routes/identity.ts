import type { FastifyRequest } from 'fastify'
import { SignetError } from '#core/error/signet-error.ts'
import { requireScope, type Authenticator, type Identity } from '#runtime/identity/token.ts'
import type { Producer } from '../entry.ts'

const identities = new WeakMap<FastifyRequest, Identity>()

/** A hook that lets a request pass with a known token and the scope; runs before the body is read. @throws UNAUTHENTICATED, FORBIDDEN */
export function requireIdentity(authenticator: Authenticator, scope: 'audit:read' | 'audit:write') {
  return async (request: FastifyRequest): Promise<void> => {
    const identity = authenticator.authenticate(request.headers.authorization)
    requireScope(identity, scope)
    identities.set(request, identity)
  }
}

/** The tenant whose rows the request may see. */
export function tenantOf(request: FastifyRequest): string {
  return identityOf(request).tenant
}

/** Whom the request writes as. @throws SignetError FORBIDDEN for a token that is no producer's */
export function producerOf(request: FastifyRequest): Producer {
  const { tenant, producerId, name } = identityOf(request)
  if (producerId === null) {
    throw new SignetError('FORBIDDEN', `${name} may not write events: its token has no producer_id`)
  }
  return { tenant, producerId }
}

function identityOf(request: FastifyRequest): Identity {
  const identity = identities.get(request)
  if (identity === undefined) throw new SignetError('UNAUTHENTICATED', 'the request was not authenticated')
  return identity
}
