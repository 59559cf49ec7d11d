import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import pg from 'pg'
import type { PublishedPolicy } from '#core/retention/published.ts'
import { readLine } from '#ledger/intake.ts'
import { ledgerKeys, type LedgerKeys } from '#ledger/keys.ts'
import { createRetentionClasses } from '#ledger/retention/classes.ts'
import { createSequencer, type Sequencer } from '#ledger/sequencer.ts'
import { Integrator } from '#ledger/tree/integrator.ts'
import { createPool } from '#runtime/postgres/transaction.ts'
import type { LedgerStack } from './ledger.ts'

/** A ledger's writing half at a time of the test's choice: events are recorded, and trees signed, as they were then. */
export type PastLedger = {
  readonly keys: LedgerKeys
  readonly sequencer: Sequencer
  /** Records lines of a session of `demo/api`. @throws where one is refused */
  append(tenant: string, lines: readonly string[], at: Date): Promise<void>
  /** Signs the tree with all that is there. */
  sign(at: Date): Promise<void>
  stop(): Promise<void>
}

export async function createPastLedger(stack: LedgerStack, policies: readonly PublishedPolicy[]): Promise<PastLedger> {
  let now = new Date()
  const clock = (): Date => now
  const wall = createPool({ url: stack.wall.loginUrl, size: 3, applicationName: 'past' })
  const keys = ledgerKeys(await readFile(stack.keyringFile, 'utf8'))
  const retention = createRetentionClasses({
    wall,
    policies: () => policies,
    clock,
    onUncovered: (_wanted, error) => {
      throw error
    },
  })
  const sequencer = createSequencer({ wall, keys, clock, randomBytes, retention })
  const integrator = new Integrator({
    wall,
    origin: 'signet-ledger',
    signingKey: (at) => keys.ackKey(at).privateKey,
    clock,
  })
  return {
    keys,
    sequencer,
    async append(tenant, lines, at) {
      now = at
      const producer = { tenant, producerId: 'demo/api' }
      const entries = lines.map((line, index) => readLine(Buffer.from(line), index + 1, producer, keys))
      const { refused } = await sequencer.append({ producer, entries })
      if (refused.length > 0) throw new Error(JSON.stringify(refused))
    },
    async sign(at) {
      now = at
      while ((await integrator.round()).outcome !== 'nothing');
    },
    stop: () => wall.end(),
  }
}

/** The partitions of a class for a month gone by, as they were made then. */
export async function makePastMonth(admin: pg.Client, retentionClass: string, month: string): Promise<void> {
  const suffix = month.slice(0, 7).replace('-', '_')
  await admin.query('SET ROLE signet_owner')
  for (const kind of ['records', 'stamps']) {
    const part = `signet.${kind}_${retentionClass}_${suffix}`
    await admin.query(
      `CREATE TABLE ${part} PARTITION OF signet.${kind}_${retentionClass} FOR VALUES FROM ('${month}') TO ('${nextMonth(month)}')`,
    )
    await admin.query(`SELECT signet.guard('${part}'::regclass, true)`)
  }
  await admin.query('RESET ROLE')
}

export function monthOf(at: Date): string {
  return `${at.toISOString().slice(0, 7)}-01`
}

function nextMonth(month: string): string {
  const first = new Date(`${month}T00:00:00.000Z`)
  first.setUTCMonth(first.getUTCMonth() + 1)
  return monthOf(first)
}

/** What an archive writes once it has read a snapshot back: for all tenants of a month as it is now. Gives the snapshot. */
export async function proveArchive(
  admin: pg.Client,
  of: { retentionClass: string; month: string; retainUntil: Date; tenants?: readonly string[] },
): Promise<string> {
  const snapshot = randomUUID()
  const manifest = createHash('sha256').update(snapshot).digest()
  await admin.query(
    `INSERT INTO signet.archive_proofs (tenant, retention_class, month, snapshot, first_seq, last_seq, records, manifest_sha256, object_key, retain_until, tree_size, verified_at)
     SELECT tenant, retention_class, month, $3::uuid, min(seq), max(seq), count(*), $4, 'snapshots/' || $3::uuid, $5, (SELECT max(size) FROM signet.tree_checkpoints), now()
       FROM signet.records WHERE retention_class = $1 AND month = $2::date AND ($6::text[] IS NULL OR tenant = ANY($6)) GROUP BY 1, 2, 3`,
    [of.retentionClass, of.month, snapshot, manifest, of.retainUntil, of.tenants ?? null],
  )
  return snapshot
}
