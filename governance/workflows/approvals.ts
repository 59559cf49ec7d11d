import type { JsonObject } from '#core/json/value.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import { approvedReleases } from '../store/workflows.ts'

/** What a proxy takes of approvals (`proxy/policy/data.ts`). */
const MAX_RELEASES = 10_000
const MAX_NAME = 512

/**
 * The part of a bundle's policy data that comes from release workflows: `{approvals}` of those that were agreed to and have not ended, in the form of
 * docs/reference/policy-data.md; `{}` where there is none.
 */
export async function releasePolicy(client: Client, tenant: string, now: Date): Promise<JsonObject> {
  const releases = await approvedReleases(client, tenant, now, MAX_RELEASES)
  if (releases.length === 0) return {}
  return {
    approvals: releases.map(({ id, release, approved_by }) => ({
      ...release,
      id,
      // To whole seconds: every process writes the same.
      expires_at: new Date(release.expires_at).toISOString(),
      approved_by: approved_by.join(', ').slice(0, MAX_NAME),
    })),
  }
}
