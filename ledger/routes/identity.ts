import type { FastifyRequest } from 'fastify'
import { SignetError } from '#core/error/signet-error.ts'
import { PRODUCER_HEADER, TENANT_HEADER } from '#core/identity/exchange.ts'
import { requireScope, type Authenticator, type Identity } from '#runtime/identity/token.ts'
import type { Producer } from '../entry.ts'

/**
 * `stamps:read`: stamps of the caller's own producer, and only those that the ledger can vouch for. `audit:admin`: what acts on a whole
 * tenant (retention, holds, purges, erasure, freezes). `audit:personal`: to see personal fields opened.
 */
export type Scope =
  | 'audit:read'
  | 'audit:write'
  | 'stamps:read'
  | 'audit:export'
  | 'audit:export:raw'
  | 'audit:admin'
  | 'audit:personal'

const identities = new WeakMap<FastifyRequest, Identity>()

/**
 * A hook that lets a request pass with a known token and one of the scopes; runs before the body is read.
 * @throws UNAUTHENTICATED, FORBIDDEN, IDENTITY_UNAVAILABLE
 */
export function requireIdentity(authenticator: Authenticator, scope: Scope, ...others: readonly Scope[]) {
  return async (request: FastifyRequest): Promise<void> => {
    const identity = await authenticator.authenticate({
      authorization: request.headers.authorization,
      claims: { tenant: onlyHeader(request, TENANT_HEADER), producerId: onlyHeader(request, PRODUCER_HEADER) },
    })
    if (!others.some((other) => identity.scopes.has(other))) requireScope(identity, scope)
    identities.set(request, identity)
  }
}

/** The tenant whose rows the request may see. */
export function tenantOf(request: FastifyRequest): string {
  return identityOf(request).tenant
}

/** Who asks, for the record. */
export function callerOf(request: FastifyRequest): string {
  return identityOf(request).name
}

/** @throws SignetError FORBIDDEN naming the scope that is missing besides the one that let the request in */
export function requireAlso(request: FastifyRequest, scope: Scope): void {
  requireScope(identityOf(request), scope)
}

/** Whether the caller has a scope besides the one that let the request in. */
export function mayAlso(request: FastifyRequest, scope: Scope): boolean {
  return identityOf(request).scopes.has(scope)
}

/** The producer whose stamps alone the request may see; null where it may see all of its tenant. */
export function stampReaderOf(request: FastifyRequest): Producer | null {
  return identityOf(request).scopes.has('audit:read') ? null : producerOf(request)
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

/** Node joins a header that came twice with a comma; no name of a tenant or producer that is configured holds one. */
function onlyHeader(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name]
  return typeof value === 'string' ? value : undefined
}
