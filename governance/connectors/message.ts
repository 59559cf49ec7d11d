import type { AuditEvent } from '#core/audit/event.ts'

/** What a webhook is told of an action that was done: a CloudEvent (https://cloudevents.io, 1.0, JSON). `type`: `workflows.execute`. */
export function messageOf(event: AuditEvent): { readonly type: string; readonly body: string } {
  const { event_id, timestamp_utc, tenant, actor, action, resource, before, after, trace_id, event_type } = event
  return {
    type: action,
    body: JSON.stringify({
      specversion: '1.0',
      id: event_id,
      source: 'signet/governance',
      type: `dev.signet.governance.${action}`,
      subject: resource,
      time: timestamp_utc,
      datacontenttype: 'application/json',
      data: { tenant, actor, action, resource, event_type, trace_id, before, after },
    }),
  }
}
