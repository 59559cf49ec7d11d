import { SignetError } from '#core/error/signet-error.ts'
import { newTraceId } from '#runtime/identifier.ts'
import { withTenant, type Client } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { ActionRunner } from '../actions/runner.ts'
import { keepDoing, type Background } from '../background.ts'
import type { GovernanceMetrics } from '../metrics.ts'
import { isCollected, type EvidenceRow, type NewEvidence } from '../store/evidence.ts'
import { tenantNames } from '../store/tenants.ts'
import {
  collectLedger,
  collectScan,
  collectStamp,
  type CollectDeps,
  type Collected,
  type CollectedKind,
} from './collect.ts'
import { claimFile, keepFile, type KeepDeps, type KeptFile } from './keep.ts'
import { deleteUnclaimed } from './tidy.ts'

export type CollectorDeps = KeepDeps & CollectDeps

const ACTOR = 'system/evidence'
const KINDS: readonly CollectedKind[] = ['ledger', 'scan', 'stamp']
const LOOK_MS = 5_000
/** What could not be had, or kept, is tried again after this long. */
const RETRY_MS = 10 * 60_000
const STORE_RETRY_MS = 60_000
const DAY_MS = 86_400_000

/** Gathers evidence of a kind and puts it into the store; nothing refers to it yet. @throws what `collect.ts` and `keepFile` throw */
export async function prepareEvidence(
  deps: CollectorDeps,
  tenant: string,
  kind: CollectedKind,
  scanId: string | null,
): Promise<{ collected: Collected; file: KeptFile }> {
  const now = deps.clock()
  const collected =
    kind === 'ledger'
      ? await collectLedger(deps, tenant)
      : kind === 'stamp'
        ? await collectStamp(deps, tenant)
        : await collectScan(deps, tenant, scanId, now)
  const document = { signet_evidence: 'v1', kind, tenant, collected_at: now.toISOString(), ...collected.document }
  const bytes = Buffer.from(`${JSON.stringify(document, null, 1)}\n`)
  return { collected, file: await keepFile(deps, tenant, bytes, 'application/json') }
}

export function asEvidence(
  { collected, file }: { collected: Collected; file: KeptFile },
  made: { readonly by: string; readonly key: string | null; readonly now: Date },
): NewEvidence {
  const { kind, name, description, controls, validDays } = collected
  return {
    ...file,
    kind,
    name,
    description,
    controls,
    media_type: 'application/json',
    collected_key: made.key,
    valid_until: new Date(made.now.getTime() + validDays * DAY_MS),
    made_by: made.by,
  }
}

/** As the ledger has it. */
export function loggedEvidence({ kind, name, media_type, bytes, sha256, controls, valid_until }: EvidenceRow) {
  return {
    kind,
    name,
    media_type,
    bytes,
    sha256,
    controls: controls.map(({ framework, control }) => `${framework}:${control}`),
    valid_until: valid_until.toISOString(),
  }
}

/** Once a day and tenant what Signet can show by itself, and deletes files that nothing refers to; several processes may. */
export function keepCollecting(
  deps: CollectorDeps & { readonly runner: ActionRunner; readonly log: Logger; readonly metrics: GovernanceMetrics },
): Background {
  const { pool, runner, log, clock, metrics } = deps
  const retryAt = new Map<string, number>()
  let isAway = false

  async function collectOne(tenant: string, kind: CollectedKind, key: string): Promise<void> {
    if (await withTenant(pool, tenant, (client) => isCollected(client, tenant, kind, key), { readOnly: true })) return
    const prepared = await prepareEvidence(deps, tenant, kind, null)
    const traceId = newTraceId()
    const { id } = prepared.file
    const request = {
      tenant,
      actor: ACTOR,
      action: 'write',
      resource: 'evidence',
      resourceId: id,
      wanted: { kind, day: key },
      traceId,
      requestId: traceId,
    } as const
    await runner.runAsSystem(request, async (client: Client) => {
      const row = await claimFile(client, tenant, asEvidence(prepared, { by: ACTOR, key, now: clock() }))
      return { result: undefined, before: null, after: loggedEvidence(row) }
    })
    metrics.evidence.inc({ kind })
  }

  async function collectDue(tenant: string, kind: CollectedKind): Promise<void> {
    const place = `${kind} ${tenant}`
    if ((retryAt.get(place) ?? 0) > clock().getTime()) return
    retryAt.set(place, clock().getTime() + RETRY_MS)
    try {
      await collectOne(tenant, kind, clock().toISOString().slice(0, 10))
    } catch (error) {
      // No scan today, no stamp yet, or another process was first: nothing is wrong.
      if (error instanceof SignetError && (error.code === 'NOT_FOUND' || error.message.includes('collected already')))
        return
      log.warn({ error, tenant, kind }, 'evidence was not collected; it is tried again')
    }
  }

  /** Without a store nothing is looked at; that is said once. */
  async function hasStore(): Promise<boolean> {
    if ((retryAt.get('store') ?? 0) > clock().getTime()) return false
    try {
      await deps.artifacts.check()
      isAway = false
      return true
    } catch (error) {
      retryAt.set('store', clock().getTime() + STORE_RETRY_MS)
      if (!isAway) log.warn({ error }, 'evidence is not collected: its store does not answer')
      isAway = true
      return false
    }
  }

  async function look(signal: AbortSignal): Promise<void> {
    const deleted = await deleteUnclaimed(deps, signal).catch((error: unknown) => {
      log.warn({ error }, 'files of evidence that nothing refers to have to wait to be deleted')
      return 0
    })
    if (deleted > 0) log.info({ deleted }, 'files of evidence that nothing refers to are deleted')
    metrics.evidenceDeleted.inc(deleted)
    if (!(await hasStore())) return
    for (const tenant of await tenantNames(pool))
      for (const kind of KINDS) {
        if (signal.aborted) return
        await collectDue(tenant, kind)
      }
  }

  const onError = (error: unknown): void => log.warn({ error }, 'evidence cannot be collected; it is tried again')
  return keepDoing(look, { everyMs: LOOK_MS, onError })
}
