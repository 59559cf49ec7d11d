import type { AuditEvent } from '#core/audit/event.ts'
import type { RevisionIndex, StoredRevision } from './revision.ts'

export const AUDIT_ACTOR = 'signet-operator'

/** The event of a publication. Stored with the revision and sent as stored, so that a retry has the same bytes. */
export function publicationEvent(options: {
  namespace: string
  tenant: string
  revision: StoredRevision
  before: RevisionIndex['revisions'][number] | undefined
  eventId: string
  traceId: string
}): AuditEvent {
  const { namespace, revision, before } = options
  const shown = (of: StoredRevision): { revision: string; digest: string } => ({
    revision: of.revision,
    digest: of.digest,
  })
  return {
    event_id: options.eventId,
    event_type: revision.reason === 'rollback' ? 'policy.bundle.rolled-back' : 'policy.bundle.published',
    timestamp_utc: revision.published_at,
    trace_id: options.traceId,
    request_id: options.eventId,
    actor: AUDIT_ACTOR,
    tenant: options.tenant,
    stage: 'publish',
    action: revision.reason === 'rollback' ? 'roll-back' : 'publish',
    resource: `bundle/namespace/${namespace}`,
    resource_type: 'policy-bundle',
    resource_id: `namespace/${namespace}@${revision.revision}`,
    before: before === undefined ? null : shown(before),
    after: shown(revision),
    outcome: 'success',
    latency_ms: 0,
    stamp_hash: null,
    context: {
      sequence: revision.sequence,
      key_id: revision.key_id,
      expires_at: revision.expires_at,
      modules: revision.modules,
      ...(revision.rolled_back_to === undefined ? {} : { rolled_back_to: revision.rolled_back_to }),
    },
    source: 'signet-operator',
  }
}

/** The revision that a stored event tells of. */
export function revisionOf(event: AuditEvent): string {
  return event.resource_id?.split('@')[1] ?? ''
}
