import type { Batch, NoticeEntry } from '../entry.ts'
import type { ExportJob } from '../store/exports.ts'

/** What the chain keeps of exports: who asked for what, what came of it, who fetched it, and when none were allowed. */

/** Stands as the producer of the ledger's own events about callers who are none. */
const LEDGER = 'signet-ledger'

type Job = Pick<ExportJob, 'id' | 'tenant' | 'requestedBy' | 'request'>

export function exportRequested({ id, tenant, requestedBy, request }: Job): Batch {
  const { format, raw, query } = request
  return notice(tenant, 'audit.export.requested', [id], id, { requested_by: requestedBy, format, raw, query })
}

export function exportCompleted({ id, tenant, requestedBy }: Job, result: Readonly<Record<string, unknown>>): Batch {
  const failed = 'error' in result
  return notice(
    tenant,
    'audit.export.completed',
    [id, failed ? 'failed' : 'done'],
    id,
    { requested_by: requestedBy, ...result },
    failed ? 'failure' : 'success',
  )
}

/** `requestId`: of the call, so that each is recorded. */
export function exportDownloaded({ id, tenant }: Job, caller: string, requestId: string): Batch {
  return notice(tenant, 'audit.export.downloaded', [id, requestId], id, { downloaded_by: caller })
}

export function exportsFrozen(
  tenant: string,
  frozen: boolean,
  by: { readonly caller: string; readonly reason: string; readonly requestId: string },
): Batch {
  const type = frozen ? 'audit.export.frozen' : 'audit.export.unfrozen'
  return notice(tenant, type, [by.requestId], 'all', { by: by.caller, reason: by.reason })
}

function notice(
  tenant: string,
  type: NoticeEntry['type'],
  cause: readonly string[],
  resourceId: string,
  context: NoticeEntry['context'],
  outcome: NoticeEntry['outcome'] = 'success',
): Batch {
  return {
    producer: { tenant, producerId: LEDGER },
    entries: [{ kind: 'notice', type, cause, resourceId, context, outcome }],
  }
}
