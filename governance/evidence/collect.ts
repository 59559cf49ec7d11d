import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject } from '#core/json/value.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import type { Catalog } from '../frameworks/catalog.ts'
import type { ControlName, EvidenceKind } from '../store/evidence.ts'
import { findScan, newestScan, summarizeScan, type RuleSummary } from '../store/scans.ts'

export type CollectDeps = {
  readonly pool: Pool
  readonly ledger: { readonly read: (path: string, tenant: string) => Promise<unknown> }
  readonly catalogs: ReadonlyMap<string, Catalog>
}
export type CollectedKind = Exclude<EvidenceKind, 'file'>
/** What Signet saw, as it is kept: one JSON document. */
export type Collected = {
  readonly kind: CollectedKind
  readonly name: string
  readonly description: string
  readonly document: JsonObject
  readonly controls: readonly ControlName[]
  readonly validDays: number
}

const VERIFIED = 2_000
/** Of the newest events: the tree has what is a few seconds old. */
const TRIED_FOR_PROOF = 20
/** How frameworks of rules are called as catalogs. */
const CATALOG_OF: Readonly<Record<string, string>> = { NIST: 'fedramp', ISO27001: 'iso27001' }

type Listed = { event: { event_id: string; stamp_hash?: string | null; timestamp_utc: string }; seq: number }

/**
 * The ledger's word that its chain holds, with the proof that its newest record is in the signed tree.
 * @throws SignetError CONFLICT (it does not verify: that is no evidence), LEDGER_UNREACHABLE
 */
export async function collectLedger({ ledger, catalogs }: CollectDeps, tenant: string): Promise<Collected> {
  const { items } = (await ledger.read(`/api/audit/logs?limit=${TRIED_FOR_PROOF}`, tenant)) as { items: Listed[] }
  const newest = items[0]?.seq ?? 0
  const from = Math.max(1, newest - VERIFIED + 1)
  const verdict = (await ledger.read(`/api/audit/verify?from_seq=${from}`, tenant)) as JsonObject
  if (verdict['ok'] !== true)
    throw new SignetError('CONFLICT', 'the ledger does not verify, which is no evidence that it does; see its own page')
  return {
    kind: 'ledger',
    name: 'Ledger: the chain verifies',
    description: `Records ${from} to ${newest} of the tenant, verified from their bytes by the ledger.`,
    document: { from_seq: from, to_seq: newest, verdict, proof: await firstProof(ledger, tenant, items) },
    controls: controlsWith(catalogs, ({ check }) => check === 'ledger-verifies'),
    validDays: 2,
  }
}

/**
 * The newest stamp of the tenant with the proof that the ledger holds its event.
 * @throws SignetError NOT_FOUND (there is none among the newest events), LEDGER_UNREACHABLE
 */
export async function collectStamp({ ledger, catalogs }: CollectDeps, tenant: string): Promise<Collected> {
  const { items } = (await ledger.read('/api/audit/logs?stage=publish&limit=100', tenant)) as { items: Listed[] }
  const stamped = items.filter(({ event }) => typeof event.stamp_hash === 'string')
  const [newest] = stamped
  if (newest === undefined)
    throw new SignetError('NOT_FOUND', 'there is no stamp among the newest events of the tenant')
  const stamp = (await ledger.read(`/api/audit/stamps/${newest.event.stamp_hash}`, tenant)) as JsonObject
  return {
    kind: 'stamp',
    name: 'Stamp of a response',
    description: `The stamp ${newest.event.stamp_hash} of ${newest.event.timestamp_utc}, as the ledger keeps it.`,
    document: {
      stamp_hash: newest.event.stamp_hash ?? null,
      stamp,
      event: newest.event,
      seq: newest.seq,
      proof: await firstProof(ledger, tenant, [newest]),
    },
    controls: controlsWith(catalogs, ({ rules }) => rules !== undefined && rules.length > 0),
    validDays: 30,
  }
}

/**
 * A scan by rule: those that hold are evidence of the controls that they name. `scanId` null: the newest of the last day that looked at everything.
 * @throws SignetError NOT_FOUND, REQUEST_INVALID (facts were given with it: it says nothing of what is)
 */
export async function collectScan(
  { pool, catalogs }: CollectDeps,
  tenant: string,
  scanId: string | null,
  now: Date,
): Promise<Collected> {
  const { scan, rules } = await withTenant(
    pool,
    tenant,
    async (client) => {
      const found =
        scanId === null
          ? await newestScan(client, tenant, new Date(now.getTime() - 86_400_000))
          : await findScan(client, tenant, scanId)
      if (found === null) throw new SignetError('NOT_FOUND', 'there is no such scan')
      return { scan: found, rules: await summarizeScan(client, tenant, found.id) }
    },
    { readOnly: true },
  )
  if (scan.given_facts.length > 0)
    throw new SignetError('REQUEST_INVALID', 'facts were given with this scan: it is no evidence of what is')
  const { id, org_id, trigger, requested_by, problems, passed, failed, started_at } = scan
  return {
    kind: 'scan',
    name: `Scan of ${org_id}`.slice(0, 200),
    description: `Scan ${id} of ${started_at.toISOString()}: ${passed} results passed, ${failed} failed.`,
    document: {
      scan: { id, org_id, trigger, requested_by, problems, passed, failed, started_at: started_at.toISOString() },
      rules: rules.map((rule) => ({ ...rule })),
    },
    controls: rules.flatMap((rule) => controlOf(catalogs, rule) ?? []),
    validDays: 30,
  }
}

/** The control that a rule is about, where all of its results passed: by its own name, or as the base of an enhancement, AC-2 of AC-2(3). */
function controlOf(catalogs: CollectDeps['catalogs'], { framework, control, failed }: RuleSummary): ControlName | null {
  if (failed > 0 || control === null) return null
  const catalog = catalogs.get(CATALOG_OF[framework] ?? framework.toLowerCase())
  const found = [control, control.replace(/\(\d+\)$/, '')].find((name) =>
    catalog?.controls.some(({ id }) => id === name),
  )
  return catalog === undefined || found === undefined ? null : { framework: catalog.id, control: found }
}

function controlsWith(
  catalogs: CollectDeps['catalogs'],
  wanted: (control: Catalog['controls'][number]) => boolean,
): ControlName[] {
  return [...catalogs.values()].flatMap(({ id, controls }) =>
    controls.filter(wanted).map((control) => ({ framework: id, control: control.id })),
  )
}

/** That one of them is in the signed tree; null where none is yet. */
async function firstProof(
  ledger: CollectDeps['ledger'],
  tenant: string,
  items: readonly Listed[],
): Promise<JsonObject | null> {
  for (const { event } of items.toReversed()) {
    try {
      return (await ledger.read(`/api/audit/logs/${event.event_id}/proof`, tenant)) as JsonObject
    } catch (error) {
      // Not integrated yet, which the ledger says as 404.
      if (!(error instanceof SignetError) || error.code !== 'LEDGER_REFUSED') throw error
    }
  }
  return null
}
