import { createHash } from 'node:crypto'
import { SignetError } from '#core/error/signet-error.ts'
import { withTenant, type Client, type Pool } from '#runtime/postgres/transaction.ts'
import {
  claim,
  countAll,
  insertEvidence,
  noteUnclaimed,
  type EvidenceRow,
  type NewEvidence,
} from '../store/evidence.ts'
import type { ArtifactStore } from './artifact-store.ts'

export type KeepDeps = {
  readonly pool: Pool
  readonly artifacts: ArtifactStore
  readonly newId: () => string
  readonly clock: () => Date
}
export type KeptFile = Pick<NewEvidence, 'id' | 'bytes' | 'sha256' | 'object_key'>

/** For as long as nothing claims it, an object stays this long. */
const UNCLAIMED_MS = 10 * 60_000
const MAX_OF_TENANT = 100_000

/**
 * Puts a file into the store before there is evidence of it: two stores do not commit together (docs/adr/0090). It is noted as unclaimed first, so that
 * it is deleted if nothing comes of it. @throws SignetError EVIDENCE_UNAVAILABLE: then there is none
 */
export async function keepFile(deps: KeepDeps, tenant: string, bytes: Buffer, mediaType: string): Promise<KeptFile> {
  const { pool, artifacts, newId, clock } = deps
  // A store that is away leaves no rows that wait for it.
  await artifacts.check()
  const id = newId()
  const object_key = `${sha256Of(tenant).slice(0, 32)}/${id}`
  const due = new Date(clock().getTime() + UNCLAIMED_MS)
  await withTenant(pool, tenant, (client) => noteUnclaimed(client, tenant, object_key, due))
  await artifacts.put(object_key, bytes, mediaType)
  return { id, object_key, bytes: bytes.length, sha256: sha256Of(bytes) }
}

/**
 * In the transaction of the change: the file becomes evidence.
 * @throws SignetError CONFLICT: it took so long that the file was deleted, or the same was collected meanwhile; POLICY_LIMIT
 */
export async function claimFile(client: Client, tenant: string, made: NewEvidence): Promise<EvidenceRow> {
  if (!(await claim(client, tenant, made.object_key)))
    throw new SignetError('CONFLICT', 'this took so long that the file was given up; send it again')
  if ((await countAll(client, tenant)) >= MAX_OF_TENANT)
    throw new SignetError(
      'POLICY_LIMIT',
      `there are ${MAX_OF_TENANT} pieces of evidence, which is as many as there may be`,
    )
  const row = await insertEvidence(client, tenant, made)
  // Rolled back with this, the file is unclaimed again.
  if (row === null) throw new SignetError('CONFLICT', 'this was collected already')
  return row
}

/** The file, which is what was kept to the last byte. @throws SignetError EVIDENCE_UNAVAILABLE, EVIDENCE_ALTERED */
export async function readFileOf(artifacts: ArtifactStore, row: EvidenceRow): Promise<Buffer> {
  const bytes = await artifacts.get(row.object_key, row.bytes)
  if (sha256Of(bytes) !== row.sha256)
    throw new SignetError('EVIDENCE_ALTERED', 'the file in the store is not the one that was kept: its SHA-256 differs')
  return bytes
}

export function sha256Of(content: Buffer | string): string {
  return createHash('sha256').update(content).digest('hex')
}
