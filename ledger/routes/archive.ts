import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import type { RestoreStatement } from '#core/archive/restore.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { parseStrict } from '#core/json/strict.ts'
import { isWritable } from '#core/retention/published.ts'
import { LEDGER_PRODUCER } from '#core/retention/purge.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import type { Archive } from '../archive/duty.ts'
import type { Batch } from '../entry.ts'
import type { StoredSnapshot } from '../store/snapshots.ts'
import type { Sequencer } from '../sequencer.ts'
import { refuseNames } from '../retention/holds.ts'
import { bodyOf, invalidBody, refuseEncoding } from './body.ts'
import { callerOf, requireIdentity, tenantOf } from './identity.ts'

const SHOWN_SNAPSHOTS = 100
const MAX_BODY_BYTES = 16 * 1024
const RestoreBody = Compile(
  Type.Object(
    {
      reason: Type.String({ minLength: 1, maxLength: 2_000, pattern: '^[^\\u0000]*$' }),
      gives_up: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
    },
    { additionalProperties: false },
  ),
)

/** Snapshots of the archive: `docs/archive.md`. They are of the whole store, so that nothing of a tenant is shown. */
export function archiveRoutes(
  app: FastifyInstance,
  deps: {
    readonly authenticator: Authenticator
    readonly sequencer: Sequencer
    readonly archive: () => Archive | null
  },
): void {
  const { authenticator, sequencer, archive } = deps
  const onRequest = requireIdentity(authenticator, 'audit:admin')
  const configured = (): Archive => {
    const found = archive()
    if (found === null)
      throw new SignetError('NOT_FOUND', 'this ledger has no archive: SIGNET_ARCHIVE_BUCKET is not set')
    return found
  }

  app.get('/api/audit/archive', { onRequest }, async (_request, reply) => {
    const items = (await configured().list(SHOWN_SNAPSHOTS)).map(present)
    return reply.header('cache-control', 'no-store').send({ items })
  })
  app.post('/api/audit/archive/snapshots', { onRequest }, async (_request, reply) => {
    const made = await configured().snapshot()
    reply.header('cache-control', 'no-store')
    return made === null ? reply.send({ snapshot: null }) : reply.status(201).send(present(made))
  })
  app.get('/api/audit/archive/restores', { onRequest }, async (_request, reply) => {
    const { stated, open } = await configured().restores()
    const contradiction = open === null ? null : { continues: open.continues, gives_up: open.givesUp }
    return reply.header('cache-control', 'no-store').send({ items: stated, contradiction })
  })
  app.post('/api/audit/archive/restores', { bodyLimit: MAX_BODY_BYTES, onRequest }, async (request, reply) => {
    refuseEncoding(request)
    const body = parseStrict(bodyOf(request))
    if (!RestoreBody.Check(body)) throw invalidBody(RestoreBody.Errors(body)[0])
    if (!isWritable(body)) throw new SignetError('REQUEST_INVALID', 'the body holds a text that is no Unicode')
    refuseNames([body.reason])
    const tenant = tenantOf(request)
    const made = await configured().stateRestore({
      reason: body.reason,
      by: callerOf(request),
      givesUp: body.gives_up,
      record: async (unsigned) => {
        await sequencer.append(wallRestored(tenant, unsigned))
      },
    })
    return reply.status(201).header('cache-control', 'no-store').send(made)
  })
}

function wallRestored(tenant: string, { number, at, ...statement }: Omit<RestoreStatement, 'signature'>): Batch {
  return {
    producer: { tenant, producerId: LEDGER_PRODUCER },
    entries: [
      {
        kind: 'notice',
        type: 'audit.wall.restored',
        cause: [String(number), at],
        resourceType: 'wall',
        resourceId: statement.origin,
        context: { number, at, ...statement },
        outcome: 'success',
      },
    ],
  }
}

function present(snapshot: StoredSnapshot): Record<string, unknown> {
  return {
    snapshot: snapshot.snapshot,
    made_at: snapshot.madeAt.toISOString(),
    manifest: snapshot.manifestKey,
    manifest_sha256: snapshot.manifestSha256,
    tree_size: snapshot.treeSize,
    records: snapshot.records,
    objects: snapshot.objects,
    bytes: snapshot.bytes,
  }
}
