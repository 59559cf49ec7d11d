import type { FastifyInstance } from 'fastify'
import { SignetError } from '#core/error/signet-error.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import type { Archive } from '../archive/duty.ts'
import type { StoredSnapshot } from '../store/snapshots.ts'
import { requireIdentity } from './identity.ts'

const SHOWN_SNAPSHOTS = 100

/** Snapshots of the archive: `docs/archive.md`. They are of the whole store, so that nothing of a tenant is shown. */
export function archiveRoutes(
  app: FastifyInstance,
  { authenticator, archive }: { readonly authenticator: Authenticator; readonly archive: () => Archive | null },
): void {
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
