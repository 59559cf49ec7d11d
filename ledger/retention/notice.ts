import type { PublishedPolicy } from '#core/retention/published.ts'
import { LEDGER_PRODUCER, type PurgeSignature, type PurgeStatement } from '#core/retention/purge.ts'
import type { Batch, NoticeEntry, RetentionNoticeType } from '../entry.ts'
import { refuseNames, type Hold } from './holds.ts'

/** What a tenant's chain keeps of retention: which policies came and went, what was held, and what was purged. */

/** `source`: `api`, or `operator` for one of the platform's. `policy` null: it was taken away. `change`: tells one change from another. */
export function policyChanged(
  tenant: string,
  changed: {
    readonly source: 'api' | 'operator'
    readonly name: string
    readonly policy: PublishedPolicy | null
    readonly by: string
    readonly change: string
  },
): Batch {
  const { source, name, policy, by, change } = changed
  return notice(tenant, 'audit.retention.changed', [source, name, change], 'retention-policy', `${source}/${name}`, {
    by,
    policy,
  })
}

export function holdPlaced(hold: Omit<Hold, 'placedAt'>): Batch {
  const { id, tenant, reason, reference, dataDomains, regions, fromMonth, toMonth, policy, placedBy } = hold
  const selected = { data_domains: dataDomains, regions, from_month: fromMonth, to_month: toMonth }
  return notice(tenant, 'audit.hold.placed', [id], 'legal-hold', id, {
    by: placedBy,
    reason,
    reference,
    policy,
    ...selected,
  })
}

/** @throws SignetError REQUEST_INVALID for an e-mail address in `reason`: before anything of the release is recorded */
export function holdReleased(tenant: string, id: string, by: string, reason: string): Batch {
  refuseNames([reason])
  return notice(tenant, 'audit.hold.released', [id], 'legal-hold', id, { by, reason })
}

/** Before the purge: nothing goes without it. */
export function purgeAuthorized(statement: PurgeStatement, signature: PurgeSignature, by: string): Batch {
  const { tenant, purge_id, retention_class, month } = statement
  const place = `${retention_class}/${month.slice(0, 7)}`
  return notice(tenant, 'audit.purge.authorized', [purge_id], 'purge', place, { by, statement, signature })
}

export function purgeCompleted(statement: PurgeStatement): Batch {
  const { tenant, purge_id, retention_class, month, records } = statement
  const context = { purge_id, retention_class, month, records }
  return notice(
    tenant,
    'audit.purge.completed',
    [purge_id],
    'purge',
    `${retention_class}/${month.slice(0, 7)}`,
    context,
  )
}

/** The statement is void from here on. */
export function purgeAbandoned(statement: PurgeStatement, reason: string): Batch {
  const { tenant, purge_id, retention_class, month } = statement
  const context = { purge_id, retention_class, month, reason }
  const place = `${retention_class}/${month.slice(0, 7)}`
  return notice(tenant, 'audit.purge.abandoned', [purge_id], 'purge', place, context, 'failure')
}

function notice(
  tenant: string,
  type: RetentionNoticeType,
  cause: readonly string[],
  resourceType: string,
  resourceId: string,
  context: NoticeEntry['context'],
  outcome: NoticeEntry['outcome'] = 'success',
): Batch {
  return {
    producer: { tenant, producerId: LEDGER_PRODUCER },
    entries: [{ kind: 'notice', type, cause, resourceType, resourceId, context, outcome }],
  }
}
