import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { AuditEvent } from '#core/audit/event.ts'
import { openRecord } from '#core/audit/record.ts'
import { commitment } from '#core/chain/link.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { isValidAt } from '#core/keyring/keyring.ts'
import { macMatches } from '#core/stamp/mac.ts'
import { readStamp } from '#core/stamp/verify.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import type { Producer } from '../entry.ts'
import type { LedgerKeys } from '../keys.ts'
import { encodeCursor, parseLogsQuery, parseStampQuery } from '../query.ts'
import type { PersonalReader } from '../seal/reader.ts'
import type { Opened } from '../seal/sealer.ts'
import {
  countRecords,
  findStamp,
  findStampOfRequest,
  mayHideSealed,
  searchRecords,
  type FoundRow,
} from '../store/search.ts'
import { requireIdentity, stampReaderOf, tenantOf } from './identity.ts'

export type LogsDeps = {
  readonly authenticator: Authenticator
  readonly wall: Pool
  readonly keys: LedgerKeys
  readonly personal: PersonalReader
}

/** What auditors and proxies read: events, newest first, and whole stamps. */
export function logsRoutes(app: FastifyInstance, deps: LogsDeps): void {
  const onRequest = requireIdentity(deps.authenticator, 'audit:read')
  const readsStamps = requireIdentity(deps.authenticator, 'audit:read', 'stamps:read')

  async function findPage(request: FastifyRequest, counts: boolean) {
    const tenant = tenantOf(request)
    const filter = await deps.personal.expand(tenant, parseLogsQuery(request.query))
    const { rows, ...page } = await withTenant(
      deps.wall,
      tenant,
      async (client) => {
        const { rows, more } = await searchRecords(client, tenant, filter)
        const last = rows.at(-1)
        const next_cursor = more && last !== undefined ? encodeCursor(last.seq, filter.order) : null
        const count = counts || filter.count ? await countRecords(client, tenant, filter, rows.length) : null
        const hidden = filter.words === null ? null : await mayHideSealed(client, tenant, filter)
        return {
          rows,
          next_cursor,
          ...(count === null ? {} : { count }),
          ...(hidden === null ? {} : { sealed_excluded: hidden }),
        }
      },
      { readOnly: true },
    )
    return { items: await presentOpened(deps.personal, request, tenant, rows.map(presentRecord)), ...page }
  }

  app.get('/api/audit/logs', { onRequest }, async (request, reply) => {
    const page = await findPage(request, false)
    return reply.type('application/json').header('cache-control', 'no-store').send(JSON.stringify(page))
  })

  // The same list for who works with events and not with the chain.
  app.get('/api/v1/audit-trail', { onRequest }, async (request, reply) => {
    const { items, ...page } = await findPage(request, true)
    const answer = { data: items.map(presentEvent), ...page }
    return reply.type('application/json').header('cache-control', 'no-store').send(JSON.stringify(answer))
  })

  app.get<{ Params: { stampHash: string } }>(
    '/api/audit/stamps/:stampHash',
    { onRequest: readsStamps },
    async (request, reply) => {
      const tenant = tenantOf(request)
      const reader = stampReaderOf(request)
      const { stampHash } = request.params
      const stamp = /^sha256:[0-9a-f]{64}$/.test(stampHash)
        ? await withTenant(deps.wall, tenant, (client) => findStamp(client, tenant, stampHash), { readOnly: true })
        : null
      if (stamp === null || (reader !== null && !isStampOf(deps.keys, reader, stamp)))
        throw new SignetError('STAMP_MISSING', 'the ledger has no stamp of this hash for this tenant')
      // A hash names one sequence of bytes for ever.
      return reply.type('application/json').header('cache-control', 'private, max-age=31536000, immutable').send(stamp)
    },
  )

  app.get<{ Params: { requestId: string } }>(
    '/api/audit/requests/:requestId/stamp',
    { onRequest: readsStamps },
    async (request, reply) => {
      const tenant = tenantOf(request)
      const reader = stampReaderOf(request)
      const { requestId } = request.params
      const asked = parseStampQuery(request.query)
      const producerId = reader === null ? asked.producerId : reader.producerId
      const found = requestId.includes('\0')
        ? null
        : await withTenant(deps.wall, tenant, (client) => findStampOfRequest(client, tenant, requestId, producerId), {
            readOnly: true,
          })
      if (found === null || (reader !== null && !isStampOf(deps.keys, reader, found.stamp)))
        throw new SignetError('STAMP_MISSING', 'the ledger has no stamp of this request for this tenant')
      return reply
        .type('application/json')
        .header('compliance-stamp', found.hash)
        .header('cache-control', 'no-store')
        .send(found.stamp)
    },
  )
}

/** A stamp of this producer, made with a key that the ledger itself hands out or holds: who may read no other can rely on it. */
function isStampOf(keys: LedgerKeys, { tenant, producerId }: Producer, stampBytes: Buffer): boolean {
  const stamp = readStamp(stampBytes)
  const key = keys.stampKey(stamp.integrity.key_id)
  return (
    key !== undefined &&
    key.tenant === tenant &&
    key.producerId === producerId &&
    stamp.data_lineage.producer_id === producerId &&
    stamp.subject.tenant === tenant &&
    isValidAt(key, stamp.timestamp_utc) &&
    macMatches(stamp, key.secret)
  )
}

const hex = (bytes: Buffer | null): string | null => bytes?.toString('hex') ?? null

/** An item without its place in the chain: the members of the event at the top. */
function presentEvent(item: Record<string, unknown>): Record<string, unknown> {
  const { seq, event, producer_id, received_at, fault } = item
  if (event === null) return { seq, intact: false, fault }
  const opened = item['opened'] as Opened | undefined
  const shown = { ...(opened?.event ?? (event as AuditEvent)), seq, producer_id, received_at, intact: true }
  return opened === undefined || opened.missing.length === 0 ? shown : { ...shown, missing: opened.missing }
}

/**
 * The items, for who may see personal fields each with `opened`: its event in clear, and what of it could not be opened. `event` stays as
 * the chain committed to it.
 */
export async function presentOpened(
  personal: PersonalReader,
  request: FastifyRequest,
  tenant: string,
  items: readonly Record<string, unknown>[],
): Promise<Record<string, unknown>[]> {
  const events = items.map(({ event }) => (event ?? null) as AuditEvent | null)
  const opened = await personal.openFor(request, tenant, events)
  return items.map((item, index) => {
    const one = opened?.[index] ?? null
    return one === null ? item : { ...item, opened: one }
  })
}

/** An item of the list. `fault` where the record is not what the chain committed to; `GET /api/audit/verify` says more. */
export function presentRecord(row: FoundRow): Record<string, unknown> {
  const link = {
    seq: row.seq,
    commitment: hex(row.commitment),
    hash: hex(row.hash),
    previous_hash: hex(row.previous_hash),
    previous_trace_hash: hex(row.previous_trace_hash),
    key_id: row.key_id,
    nonce: row.nonce.toString('hex'),
  }
  const intact = row.commitment !== null && commitment(row.nonce, row.bytes).equals(row.commitment)
  if (!intact) return { ...link, event: null, fault: row.commitment === null ? 'unlinked' : 'edit' }
  try {
    const { v: _, ...record } = openRecord(row.bytes)
    return { ...link, ...record }
  } catch {
    return { ...link, event: null, fault: 'unreadable' }
  }
}
