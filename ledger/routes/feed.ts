import type { FastifyInstance, FastifyRequest } from 'fastify'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'
import { noticeAttributes, recordAttributes, structuredEvent } from '#core/feed/cloud-event.ts'
import { decodeFeedCursor, encodeFeedCursor, type FeedCursor } from '#core/feed/cursor.ts'
import { toOcsf } from '#core/feed/ocsf.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import { watchHeads } from '../feed/heads.ts'
import { intactRecord, readFeedPage, type FeedPage } from '../feed/page.ts'
import type { PersonalReader } from '../seal/reader.ts'
import type { FoundRow } from '../store/search.ts'
import { readHead } from '../store/wall.ts'
import { requireIdentity, tenantOf } from './identity.ts'
import { presentOpened, presentRecord } from './logs.ts'

export type FeedDeps = {
  readonly authenticator: Authenticator
  readonly wall: Pool
  readonly origin: string
  readonly personal: PersonalReader
}

const FORMATS = ['record', 'cloudevents', 'ocsf'] as const
const FeedQuery = Type.Object(
  {
    after: Type.Optional(Type.String({ minLength: 1, maxLength: 100 })),
    limit: Type.Optional(Type.String({ pattern: '^[0-9]{1,4}$' })),
    wait: Type.Optional(Type.String({ pattern: '^[0-9]{1,2}$' })),
    format: Type.Optional(Type.Enum(FORMATS)),
  },
  { additionalProperties: false },
)
const validator = Compile(FeedQuery)
const MAX_PAGE = 1_000
const DEFAULT_PAGE = 100
/** Below the half minute that many balancers give a request. */
const MAX_WAIT_SECONDS = 25

type Asked = {
  readonly after: FeedCursor | 0 | 'latest'
  readonly limit: number
  readonly waitMs: number
  readonly format: (typeof FORMATS)[number]
}

/** A tenant's chain as it grows, page after page, for consumers without Kafka (docs/feed.md). */
export function feedRoutes(app: FastifyInstance, { authenticator, wall, origin, personal }: FeedDeps): void {
  const heads = watchHeads(wall)
  app.addHook('preClose', async () => heads.stop())

  async function latest(tenant: string): Promise<FeedPage> {
    const head = await withTenant(wall, tenant, (client) => readHead(client, tenant), { readOnly: true })
    return { rows: [], absent: [], next: head, head: head.seq }
  }

  async function findPage(request: FastifyRequest, tenant: string, asked: Asked): Promise<FeedPage> {
    const { after, limit, waitMs } = asked
    if (after === 'latest') return latest(tenant)
    const page = await readFeedPage(wall, tenant, after, limit)
    if (waitMs === 0 || page.rows.length > 0 || page.absent.length > 0) return page
    const gone = new AbortController()
    const leave = (): void => gone.abort()
    request.raw.socket.once('close', leave)
    try {
      await heads.waitPast(tenant, page.next.seq, waitMs, gone.signal)
    } finally {
      request.raw.socket.removeListener('close', leave)
    }
    return gone.signal.aborted ? page : readFeedPage(wall, tenant, after, limit)
  }

  app.get('/api/audit/feed', { onRequest: requireIdentity(authenticator, 'audit:read') }, async (request, reply) => {
    const tenant = tenantOf(request)
    const asked = parseFeedQuery(request.query)
    const page = await findPage(request, tenant, asked)
    const items = await present(request, tenant, asked.format, page.rows)
    const { seq, hash } = page.next
    const body = {
      items,
      absent: page.absent.map(({ from, to }) => ({ from_seq: from, to_seq: to })),
      // A chain whose link is gone is not gone past in silence: who asks again is told (409).
      cursor: seq === 0 ? null : encodeFeedCursor(seq, hash ?? Buffer.alloc(32)),
      more: page.head > seq,
      lag: page.head - seq,
    }
    return reply.type('application/json').header('cache-control', 'no-store').send(JSON.stringify(body))
  })

  async function present(
    request: FastifyRequest,
    tenant: string,
    format: Asked['format'],
    rows: readonly FoundRow[],
  ): Promise<unknown[]> {
    if (format === 'record') {
      const items = rows.map((row) => ({ ...presentRecord(row), bytes: row.bytes.toString('base64') }))
      return presentOpened(personal, request, tenant, items)
    }
    return rows.map((row) => {
      const record = intactRecord(row)
      if (record === null || row.commitment === null || row.hash === null) return faulty(tenant, format, row)
      if (format === 'ocsf') return toOcsf(row.seq, record)
      const { seq, nonce, commitment, hash } = row
      const attributes = recordAttributes(origin, { seq, record, nonce, commitment, hash, keyId: row.key_id ?? '' })
      return structuredEvent(attributes, record)
    })
  }

  function faulty(tenant: string, format: Asked['format'], { seq }: FoundRow): unknown {
    if (format === 'ocsf')
      throw new SignetError(
        'CHAIN_BROKEN',
        `record ${seq} is not what the chain committed to; see GET /api/audit/verify`,
      )
    return structuredEvent(noticeAttributes(origin, tenant, { kind: 'faulty', from: seq, to: seq }), { seq })
  }
}

/** @throws SignetError REQUEST_INVALID naming the parameter */
export function parseFeedQuery(query: unknown): Asked {
  if (!validator.Check(query)) {
    const name = validator.Errors(query)[0]?.instancePath.replace(/^\//, '') ?? ''
    throw new SignetError(
      'REQUEST_INVALID',
      name === ''
        ? 'the query has a parameter that is not known here; see docs/feed.md'
        : `the parameter ${name} is not valid (given once); see docs/feed.md`,
    )
  }
  const limit = query.limit === undefined ? DEFAULT_PAGE : Number(query.limit)
  if (limit < 1 || limit > MAX_PAGE)
    throw new SignetError('REQUEST_INVALID', `the parameter limit must be from 1 to ${MAX_PAGE}`)
  const wait = query.wait === undefined ? 0 : Number(query.wait)
  if (wait > MAX_WAIT_SECONDS)
    throw new SignetError('REQUEST_INVALID', `the parameter wait must be from 0 to ${MAX_WAIT_SECONDS} seconds`)
  const { after, format = 'record' } = query
  return {
    after: after === undefined ? 0 : after === 'latest' ? 'latest' : decodeFeedCursor(after),
    limit,
    waitMs: wait * 1_000,
    format,
  }
}
