/** A tenant's chain as far as it goes and as far as it is in the tree. */
export type Backlog = { readonly tenant: string; readonly integrated: number; readonly head: number }
/** Links `first` to `last` of a tenant. */
export type LinkRange = { readonly tenant: string; readonly first: number; readonly last: number }

/**
 * Shares `limit` leaves among the tenants that wait, evenly: what one does not need goes to the others, so that nobody's backlog
 * keeps another's links out of the tree.
 */
export function allotLeaves(backlogs: readonly Backlog[], limit: number): LinkRange[] {
  const waiting = backlogs
    .filter(({ head, integrated }) => head > integrated)
    .toSorted((a, b) => a.head - a.integrated - (b.head - b.integrated) || (a.tenant < b.tenant ? -1 : 1))
  const ranges: LinkRange[] = []
  let left = limit
  waiting.forEach(({ tenant, integrated, head }, index) => {
    const share = Math.min(head - integrated, Math.floor(left / (waiting.length - index)))
    if (share === 0) return
    ranges.push({ tenant, first: integrated + 1, last: integrated + share })
    left -= share
  })
  return ranges
}
