import type { ArchivePart, ArchiveTenant } from '#core/archive/manifest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { WallReader } from '#runtime/wall/reader.ts'
import * as rows from '../store/archive.ts'
import type { ObjectWriter } from './objects.ts'

const DAY_MS = 86_400_000
/** The last day that an object lock can name everywhere. */
const LAST_DAY = Date.parse('9999-12-01T00:00:00Z')

export type SnapshotContext = {
  readonly reader: WallReader
  readonly writer: ObjectWriter
  readonly usual: Date
  readonly archiveDays: ReadonlyMap<string, number>
}

/** What is new of a tenant since `former`, and all that the archive has of it then. @throws SignetError ARCHIVE_INVALID, ARCHIVE_UNAVAILABLE */
export async function archiveTenant(
  { reader, writer, usual, archiveDays }: SnapshotContext,
  { tenant, lastSeq, head }: rows.CoveredTenant,
  former: ArchiveTenant | undefined,
): Promise<{ tenant: ArchiveTenant; changed: ArchivePart[]; records: number }> {
  const after = former?.last_seq ?? 0
  const parts = new Map((former?.parts ?? []).map((part) => [`${part.retention_class} ${part.month}`, part]))
  const changed: ArchivePart[] = []
  let records = 0
  const links = await writer.write({ section: `links ${tenant}`, name: 'links', retainUntil: usual }, after, (place) =>
    rows.linkRows(reader, tenant, lastSeq, place),
  )
  for (const part of await rows.readNewParts(reader, tenant, after, lastSeq)) {
    const days = archiveDays.get(part.retentionClass)
    const until = days === undefined ? usual : lockFor(part.month, days, usual)
    const whose = `${part.retentionClass} ${part.month} ${tenant}`
    const before = part.first - 1
    const objects = await writer.write(
      { section: `records ${whose}`, name: 'records', retainUntil: until },
      before,
      (place) => rows.recordRows(reader, tenant, part, place),
    )
    const found = objects.reduce((sum, object) => sum + object.rows, 0)
    if (found !== part.records)
      throw new SignetError(
        'ARCHIVE_INVALID',
        `tenant ${tenant}: ${part.records} links of ${part.retentionClass} ${part.month} have ${found} records: the wall has to be verified`,
      )
    const stamps = await writer.write(
      { section: `stamps ${whose}`, name: 'stamps', retainUntil: until },
      before,
      (place) => rows.stampRows(reader, tenant, part, place),
    )
    const earlier = parts.get(`${part.retentionClass} ${part.month}`)
    const whole: ArchivePart = {
      retention_class: part.retentionClass,
      month: part.month,
      first_seq: earlier?.first_seq ?? part.first,
      last_seq: part.last,
      records: (earlier?.records ?? 0) + part.records,
      objects: [...(earlier?.objects ?? []), ...objects],
      stamps: [...(earlier?.stamps ?? []), ...stamps],
    }
    parts.set(`${part.retentionClass} ${part.month}`, whole)
    changed.push(whole)
    records += part.records
  }
  return {
    tenant: {
      tenant,
      last_seq: lastSeq,
      head,
      links: [...(former?.links ?? []), ...links],
      parts: [...parts.values()],
    },
    changed,
    records,
  }
}

/** A day past the end of what the class asks for, and never less than usual. */
function lockFor(month: string, archiveDays: number, usual: Date): Date {
  const ends = new Date(`${month}T00:00:00Z`)
  ends.setUTCMonth(ends.getUTCMonth() + 1)
  return wholeSecond(Math.max(usual.getTime(), ends.getTime() + (archiveDays + 1) * DAY_MS))
}

/** Stores keep retention to the second. */
export function wholeSecond(ms: number): Date {
  return new Date(Math.ceil(Math.min(ms, LAST_DAY) / 1_000) * 1_000)
}

/** Until when all of the part is locked. */
export function lockOf(part: ArchivePart): Date {
  return new Date(Math.min(...[...part.objects, ...part.stamps].map(({ retain_until: until }) => Date.parse(until))))
}
