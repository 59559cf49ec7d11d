import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import {
  createHeldPolls,
  LONG_POLL_TYPE,
  matchesEtag,
  preferredWaitSeconds,
  type PolledBundles,
} from '#engine/bundle/held-polls.ts'
import type { BundlePublisher } from '../bundles/publisher.ts'
import { defineCall, found, principalOf, read, type CallDeps } from '../http/calls.ts'
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

/** Held at the same time by a process: half of its connections. Proxies of a tenant may all have one token. */
const MAX_POLLS = 512
const MAX_WAIT_SECONDS = 60

/** The tenant's rule bundle, as OPA's bundle API has it (https://www.openpolicyagent.org/docs/management-bundles). */
export function bundleRoutes(
  app: FastifyInstance,
  deps: CallDeps & { readonly publisher: BundlePublisher; readonly bundleNews: PolledBundles },
): void {
  const target = { action: 'read', resource: 'policies' } as const
  const polls = createHeldPolls({ source: deps.bundleNews, maxPolls: MAX_POLLS, maxPollsPerCaller: MAX_POLLS / 2 })
  app.addHook('preClose', () => polls.end())

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
      summary:
        'The signed bundle itself; `If-None-Match` is answered by 304, with `Prefer: wait=N` once there is news or N seconds (60 at most) are over',
      tag: 'policies',
      permission: ['read', 'policies'],
      answer: Type.Any({ description: 'tar, gzip; see docs/policies.md' }),
      mediaType: LONG_POLL_TYPE,
    },
    async (_input, request, reply) => {
      const look = () =>
        read(deps, request, target, async (client, { tenant }) => {
          const newest = found(await latestRevision(client, tenant), 'bundle')
          const isKnown = matchesEtag(request.headers['if-none-match'], newest.etag)
          return {
            head: newest,
            bundle: isKnown ? null : found(await revisionBundle(client, tenant, newest.sequence), 'bundle'),
          }
        })
      let { head, bundle } = await look()
      const waitSeconds = Math.min(preferredWaitSeconds(request.headers.prefer), MAX_WAIT_SECONDS)
      if (bundle === null && waitSeconds > 0) {
        const { tenant } = principalOf(request)
        const gone = new AbortController()
        reply.raw.once('close', () => gone.abort())
        const { etag } = head
        await polls.hold({ key: tenant, etag, caller: tenant, waitMs: waitSeconds * 1000, signal: gone.signal })
        // With the rights of now.
        ;({ head, bundle } = await look())
      }
      reply.header('etag', head.etag)
      if (bundle === null) reply.status(304)
      return bundle
    },
  )
}
