import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import type { BundlePublisher } from '../bundles/publisher.ts'
import { defineCall, found, read, type CallDeps } from '../http/calls.ts'
import { Time } from '../http/schemas.ts'
import { latestRevision, revisionBundle } from '../store/bundles.ts'

const Head = Type.Object({
  revision: Type.String(),
  sequence: Type.Integer(),
  is_current: Type.Boolean({ description: 'It is made of what is in force now.' }),
  problem: Type.Union([Type.String(), Type.Null()], {
    description: 'Why the next one could not be published; this one stays until it can.',
  }),
  issued_at: Time,
  expires_at: Time,
})

/** The tenant's rule bundle, as OPA's bundle API has it (https://www.openpolicyagent.org/docs/management-bundles). */
export function bundleRoutes(app: FastifyInstance, deps: CallDeps & { readonly publisher: BundlePublisher }): void {
  const target = { action: 'read', resource: 'policies' } as const

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: '/api/v1/bundle',
      summary: 'What is published to proxies',
      tag: 'policies',
      permission: ['read', 'policies'],
      answer: Head,
    },
    (_input, request) =>
      read(deps, request, target, async (client, { tenant }) => {
        const head = found(await latestRevision(client, tenant), 'bundle')
        const { revision, sequence, issued_at, expires_at } = head
        return {
          revision,
          sequence: Number(sequence),
          is_current: await deps.publisher.isCurrent(client, tenant, head),
          problem: deps.publisher.problemOf(tenant),
          issued_at: issued_at.toISOString(),
          expires_at: expires_at.toISOString(),
        }
      }),
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: '/bundles/policies.tar.gz',
      summary: 'The signed bundle itself; `If-None-Match` is answered by 304',
      tag: 'policies',
      permission: ['read', 'policies'],
      answer: Type.Any({ description: 'tar, gzip; see docs/policies.md' }),
      mediaType: 'application/gzip',
    },
    async (_input, request, reply) => {
      const { head, bundle } = await read(deps, request, target, async (client, { tenant }) => {
        const newest = found(await latestRevision(client, tenant), 'bundle')
        const isKnown = knows(request.headers['if-none-match'], newest.etag)
        return {
          head: newest,
          bundle: isKnown ? null : found(await revisionBundle(client, tenant, newest.sequence), 'bundle'),
        }
      })
      reply.header('etag', head.etag)
      if (bundle === null) reply.status(304)
      return bundle
    },
  )
}

/** RFC 9110, 13.1.2: weak comparison; our tags hold no comma. */
function knows(header: string | undefined, etag: string): boolean {
  return (header ?? '').split(',').some((item) => item.trim() === '*' || item.trim().replace(/^W\//, '') === etag)
}
