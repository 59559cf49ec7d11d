import { styleText } from 'node:util'
import type { TreeHead } from '#core/tree/checkpoint.ts'
import type { ArchivedHeads } from '#runtime/archive/checkpoints.ts'
import type { FsckReport, StoreFault } from '#runtime/wall/fsck.ts'

type Result = 'verified' | 'not-fully-checked' | 'invalid'
export type Report = {
  readonly result: Result
  readonly links: number
  readonly tenants: FsckReport['tenants']
  readonly tree: { leaves: number; checkpoints: number; root: string; origin: string | null } | null
  /** Sizes of the checkpoints from outside that the tree was found to contain. */
  readonly external: readonly number[]
  /** What the archive was asked for; null where it was not. */
  readonly archive: ArchiveReport | null
  /** Links that are in no checkpoint of the store, and those past the last checkpoint from outside (null: there is none). */
  readonly not_yet_signed: number
  readonly not_yet_proven: number | null
  readonly first_bad?: StoreFault
  readonly faults: readonly StoreFault[]
  readonly seconds: number
  readonly cpu_seconds: number
}

/** `newest`: size of the last checkpoint; null where there is none. `unsigned`: objects that no known key signed. */
type ArchiveReport =
  | {
      readonly read: true
      readonly checkpoints: number
      readonly newest: number | null
      readonly unsigned: number
      readonly restores: readonly { at: string; continues: number; gives_up: number; reason: string; by: string }[]
    }
  | { readonly read: false; readonly fault: string }

/** What the archive says, or why it was not read. */
export type Archived = ArchivedHeads | { readonly fault: string }

const SHOWN_TENANTS = 20

export function reportOf(
  found: FsckReport,
  {
    given,
    external,
    archived,
  }: { given: readonly TreeHead[]; external: readonly TreeHead[]; archived: Archived | null },
  times: Pick<Report, 'seconds' | 'cpu_seconds'>,
): Report {
  const { links, tenants, tree, faults } = found
  const [first] = faults
  const proven = Math.max(...external.map(({ size }) => size))
  const signed = tenants.reduce((sum, { in_tree }) => sum + in_tree, 0)
  const archive = archived === null ? null : archiveReport(archived)
  const unread = archive !== null && (!archive.read || archive.newest === null)
  const sound: Result = external.length > 0 && !unread ? 'verified' : 'not-fully-checked'
  return {
    result: first === undefined ? sound : 'invalid',
    links,
    tenants,
    tree: tree && {
      leaves: tree.leaves,
      checkpoints: tree.checkpoints,
      root: tree.root.toString('base64'),
      origin: tree.origin,
    },
    external: given.map(({ size }) => size),
    archive,
    not_yet_signed: Math.max(0, links - signed),
    not_yet_proven: external.length === 0 ? null : Math.max(0, links - proven),
    ...(first === undefined ? {} : { first_bad: first }),
    faults,
    ...times,
  }
}

function archiveReport(archived: Archived): ArchiveReport {
  if ('fault' in archived) return { read: false, fault: archived.fault }
  const { heads, newest, unsigned, restores } = archived
  return {
    read: true,
    checkpoints: heads.length,
    newest: newest?.size ?? null,
    unsigned,
    restores: restores.map(({ at, continues, gives_up, reason, by }) => ({
      at,
      continues: continues.size,
      gives_up: gives_up.size,
      reason,
      by,
    })),
  }
}

export function formatReport(report: Report): string {
  const paint = (style: 'green' | 'red' | 'yellow', text: string): string =>
    styleText(style, text, { stream: process.stdout })
  const { tree, tenants, links, seconds } = report
  const title = {
    verified: paint('green', 'verified'),
    'not-fully-checked': `${paint('yellow', 'no fault found')}, not fully checked`,
    invalid: paint('red', 'INVALID'),
  }[report.result]
  const has = tree === null ? 'compared with' : 'contains'
  const lines = [`${title}  ${links} links of ${tenants.length} tenants in ${seconds.toFixed(1)} s`]
  for (const { tenant, seq, leaf, fault, detail } of report.faults) {
    const place = leaf === undefined ? `link ${seq} of tenant ${plain(tenant ?? '')}` : `leaf ${leaf} of the tree`
    lines.push(`  fault   ${place} (${fault}): ${plain(detail)}`)
  }
  for (const { tenant, seq, hash, purged } of tenants.slice(0, SHOWN_TENANTS)) {
    const without = purged === null || purged === 0 ? '' : `, ${purged} of them purged as the chain records`
    lines.push(`  chain   ${plain(tenant)}: ${seq} links${without}, head ${hash.slice(0, 16)}…`)
  }
  if (tenants.length > SHOWN_TENANTS) lines.push(`  chain   and ${tenants.length - SHOWN_TENANTS} more tenants`)
  if (tree !== null)
    lines.push(
      `  tree    ${tree.leaves} leaves, ${tree.checkpoints} signed checkpoints, root ${tree.root.slice(0, 16)}…`,
    )
  if (report.external.length > 0)
    lines.push(
      `  outside ${has} ${report.external.length === 1 ? 'the checkpoint' : 'the checkpoints'} of ${report.external.join(', ')} leaves`,
    )
  if (report.archive !== null) lines.push(...formatArchive(report.archive, has))
  if (report.not_yet_proven === null)
    lines.push(
      '  not checked  whether the store was set back: give a checkpoint from outside with --checkpoint FILE, or --archive',
    )
  const tail = report.not_yet_proven ?? report.not_yet_signed
  lines.push(
    `  tail    ${tail} links are not yet proven by ${report.not_yet_proven === null ? 'a checkpoint of the store' : 'a checkpoint from outside'}`,
  )
  return `${lines.join('\n')}\n`
}

function formatArchive(archive: ArchiveReport, has: string): string[] {
  if (!archive.read) return [`  not read  external checkpoints of the archive: ${plain(archive.fault)}`]
  const { checkpoints, newest, unsigned, restores } = archive
  return [
    newest === null
      ? '  not read  external checkpoints of the archive: it has none that a key of this keyring signed'
      : `  archive ${has} ${checkpoints} checkpoints read, the newest of ${newest} leaves`,
    ...(unsigned === 0
      ? []
      : [`  archive ${unsigned} objects read are signed by no key of this keyring: somebody else writes to it`]),
    ...restores.map(
      ({ at, continues, gives_up, reason, by }) =>
        `  restore stated ${at} by ${plain(by)}: goes on from ${continues} leaves, gives up those to ${gives_up}: ${plain(reason)}`,
    ),
  ]
}

/** What a database says must not steer a terminal. */
export function plain(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, '\ufffd')
}
