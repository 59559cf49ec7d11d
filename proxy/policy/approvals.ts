import type { Approval } from '#core/policy/approval.ts'
import type { MatchedApproval } from '#core/policy/decision.ts'
import type { Channel } from '#core/stamp/schema.ts'
import type Type from 'typebox'

type Matched = Type.Static<typeof MatchedApproval>
export type ApprovalTable = {
  /** Approvals in force at `now` for this resource template, channel and version or digest. */
  match(query: {
    template: string
    channel: Channel
    version: string | undefined
    digest: string | null
    nowMs: number
  }): Matched[]
  /** When the next approval now in force expires, in ms since the epoch; Infinity for none. */
  nextExpiryMs(nowMs: number): number
  /** Identifies the set in force at `now`. */
  inForce(nowMs: number): string
}

const NO_APPROVALS: Matched[] = []

export function compileApprovals(approvals: readonly Approval[]): ApprovalTable {
  const entries = approvals.map((data) => ({ data, expiresMs: Date.parse(data.expires_at) }))
  const byTemplate = new Map<string, typeof entries>()
  for (const entry of entries) {
    const list = byTemplate.get(entry.data.resource)
    if (list === undefined) byTemplate.set(entry.data.resource, [entry])
    else list.push(entry)
  }
  return {
    match({ template, channel, version, digest, nowMs }) {
      const list = byTemplate.get(template)
      if (list === undefined) return NO_APPROVALS
      return list
        .filter(
          ({ data, expiresMs }) =>
            data.channel === channel &&
            expiresMs > nowMs &&
            (data.version === undefined || data.version === version) &&
            (data.digest === undefined || data.digest === digest),
        )
        .map(({ data }) => ({ id: data.id, approved_by: data.approved_by, expires_at: data.expires_at }))
    },
    nextExpiryMs(nowMs) {
      return Math.min(Infinity, ...entries.map(({ expiresMs }) => expiresMs).filter((ms) => ms > nowMs))
    },
    inForce(nowMs) {
      return entries
        .filter(({ expiresMs }) => expiresMs > nowMs)
        .map(({ data }) => JSON.stringify(data))
        .sort()
        .join('\n')
    },
  }
}
