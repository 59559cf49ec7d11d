import type { Client } from '#runtime/postgres/transaction.ts'
import { findPositions } from '../store/wall.ts'
import type { CountedGap, TraceGap } from './decide.ts'

/** Positions that are looked for in one call, of all gaps together. */
const MAX_POSITIONS = 10_000

/** Which of the gaps have been filled since: what arrives late fills its place, and the record of the gap stays. */
export async function countMissing(client: Client, tenant: string, gaps: readonly TraceGap[]): Promise<CountedGap[]> {
  const counted: CountedGap[] = []
  let left = MAX_POSITIONS
  for (const gap of gaps) {
    const width = gap.to === null ? Infinity : gap.to - gap.from + 1
    if (width > left || width < 1) {
      counted.push({ ...gap, missing: null })
      continue
    }
    left -= width
    const { session, from } = gap
    const places = Array.from({ length: width }, (_, index) => ({ session, spoolSeq: from + index }))
    const asked = new Map(places.map((place) => [`${session}/${place.spoolSeq}`, place]))
    const arrived = await findPositions(client, tenant, asked)
    counted.push({ ...gap, missing: width - arrived.size })
  }
  return counted
}
