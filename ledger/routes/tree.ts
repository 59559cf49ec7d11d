import { createPublicKey } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { SignetError } from '#core/error/signet-error.ts'
import { formatVerifier, NOTE_ALGORITHM, noteKeyId } from '#core/tree/note.ts'
import { parseTilePath, TILE_WIDTH } from '#core/tree/tile.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import type { LedgerKeys } from '../keys.ts'
import { findLeaf, readCheckpoint, withTree } from '../store/tree.ts'
import { createPublicTree } from '../tree/public.ts'
import { inclusionOf, tileBytes } from '../tree/reader.ts'
import { requireIdentity, tenantOf } from './identity.ts'

const EVENT_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
const FOREVER = 'public, max-age=31536000, immutable'

/**
 * The tree for everybody (https://c2sp.org/tlog-tiles, without credentials: leaves reveal nothing), and for a tenant the proof that
 * one of its events is in it.
 */
export function treeRoutes(
  app: FastifyInstance,
  deps: { authenticator: Authenticator; wall: Pool; keys: LedgerKeys; origin: string },
): void {
  const { authenticator, wall, keys, origin } = deps
  const tree = createPublicTree({
    checkpoint: () => withTree(wall, (client) => readCheckpoint(client), { readOnly: true }),
    tile: (tile) => withTree(wall, (client) => tileBytes(client, tile), { readOnly: true }),
  })

  app.get('/log/checkpoint', async (_request, reply) => {
    const checkpoint = await tree.checkpoint()
    if (checkpoint === null) throw new SignetError('NOT_FOUND', 'nothing is in the tree yet')
    return reply.type('text/plain; charset=utf-8').header('cache-control', 'no-cache').send(checkpoint.note)
  })

  app.get('/log/keys', async (_request, reply) => {
    const lines = keys.publicAckKeys().map(({ public_key }) => {
      const publicKey = createPublicKey({ key: Buffer.from(public_key, 'base64url'), format: 'der', type: 'spki' })
      const keyId = noteKeyId(origin, NOTE_ALGORITHM.ed25519, publicKey)
      return `${formatVerifier({ name: origin, algorithm: NOTE_ALGORITHM.ed25519, keyId, publicKey })}\n`
    })
    return reply.type('text/plain; charset=utf-8').header('cache-control', 'no-cache').send(lines.join(''))
  })

  app.get<{ Params: { '*': string } }>('/log/tile/*', async (request, reply) => {
    const tile = parseTilePath(`tile/${request.params['*']}`)
    const bytes = await tree.tile(tile)
    // A partial tile is a prefix of what will stay: it never changes either, only goes out of use.
    return reply
      .type('application/octet-stream')
      .header('cache-control', tile.width === TILE_WIDTH ? FOREVER : 'public, max-age=86400')
      .send(bytes)
  })

  app.get<{ Params: { event_id: string } }>(
    '/api/audit/logs/:event_id/proof',
    { onRequest: requireIdentity(authenticator, 'audit:read') },
    async (request, reply) => {
      const tenant = tenantOf(request)
      const { event_id } = request.params
      if (!EVENT_ID.test(event_id)) throw new SignetError('REQUEST_INVALID', 'an event id is a lowercase UUID')
      const leaf = await withTenant(wall, tenant, (client) => findLeaf(client, tenant, event_id), { readOnly: true })
      if (leaf === null) throw new SignetError('NOT_FOUND', `no event ${event_id}`)
      const { index } = leaf
      if (index === null)
        throw new SignetError('NOT_FOUND', 'the event is not in the signed tree yet; it is within seconds')
      const { path, checkpoint } = await withTree(wall, (client) => inclusionOf(client, index), {
        readOnly: true,
      })
      return reply
        .type('application/json')
        .header('cache-control', 'no-store')
        .send(
          JSON.stringify({
            version: 1,
            event_id,
            seq: leaf.seq,
            commitment: leaf.commitment.toString('hex'),
            link_hash: leaf.linkHash.toString('hex'),
            leaf_index: index,
            inclusion_path: path.map((hash) => hash.toString('hex')),
            checkpoint: checkpoint.note,
          }),
        )
    },
  )
}
