import type { AuditEvent } from '#core/audit/event.ts'
import type { Action, Resource } from '../access/permission.ts'
import type { NewDomainEvent } from '../store/domain-events.ts'

/** What a resource is called where something happened to one. */
const NOUNS: Readonly<Record<Resource, string>> = {
  policies: 'policy',
  rules: 'rule',
  scans: 'scan_schedule',
  remediation: 'remediation',
  tasks: 'task',
  events: 'compliance_event',
  violations: 'reference',
  workflows: 'workflow',
  evidence: 'evidence',
  checklists: 'control',
  audit: 'audit_log',
  connectors: 'webhook',
  reports: 'report',
  users: 'user',
  'service-accounts': 'service_account',
  roles: 'role',
  tokens: 'token',
}
const ENDINGS = ['created', 'changed', 'deleted'] as const

/** What is more than something made, changed or deleted. */
const OWN_TYPES = [
  'policy.activated',
  'policy.deactivated',
  'bundle.published',
  'scan.finished',
  'remediation.status_changed',
  'remediation.assigned',
  'task.status_changed',
  'task.assigned',
  'compliance_event.recorded',
  'violation.opened',
  'violation.resolved',
  'violation.contained',
  'violation.resolution_tried',
  'resolution_settings.changed',
  'workflow.status_changed',
  'workflow.paused',
  'workflow.resumed',
  'evidence.added',
  'role.granted',
  'role.revoked',
  // Not of an action: events that waited for too long are gone.
  'events.lost',
] as const
type OwnType = (typeof OWN_TYPES)[number]

/** Every type there is, without `dev.signet.governance.`; docs/domain-events.md has the same. */
export const DOMAIN_EVENT_TYPES: readonly string[] = [
  ...Object.values(NOUNS).flatMap((noun) => ENDINGS.map((ending) => `${noun}.${ending}`)),
  ...OWN_TYPES,
]

type Told = { readonly before: Members | null; readonly after: Members | null }
type Members = Readonly<Record<string, unknown>>

/** Which of the own types an action is; null: it made, changed or deleted something, and nothing more. */
const OWN: Readonly<Partial<Record<`${Resource}.${Action}`, (told: Told) => OwnType | null>>> = {
  'policies.execute': ({ after }) =>
    after !== null && 'revision' in after
      ? 'bundle.published'
      : after?.['active_version'] == null
        ? 'policy.deactivated'
        : 'policy.activated',
  'scans.execute': () => 'scan.finished',
  'remediation.execute': ({ before, after }) =>
    before?.['status'] === after?.['status'] ? null : 'remediation.status_changed',
  'remediation.assign': () => 'remediation.assigned',
  'tasks.execute': () => 'task.status_changed',
  'tasks.assign': () => 'task.assigned',
  'events.write': () => 'compliance_event.recorded',
  'violations.execute': ({ after }) => {
    const became = after?.['outcome'] ?? after?.['state']
    if (became === 'resolved') return 'violation.resolved'
    return became === 'contained' ? 'violation.contained' : 'violation.resolution_tried'
  },
  'violations.override': () => 'resolution_settings.changed',
  'workflows.execute': () => 'workflow.status_changed',
  'workflows.pause': ({ after }) => (after?.['paused'] === true ? 'workflow.paused' : 'workflow.resumed'),
  'evidence.write': ({ before }) => (before === null ? 'evidence.added' : null),
  'roles.assign': ({ after }) => (after === null ? 'role.revoked' : 'role.granted'),
}

/** What happened by an action that was done: one event of the action, and one for each violation that it opened. */
export function domainEventsOf(event: AuditEvent): NewDomainEvent[] {
  const { event_id: id, timestamp_utc: happenedAt, tenant, actor, action, resource, trace_id } = event
  const told: Told = { before: members(event.before), after: members(event.after) }
  const common = { tenant, actor, action, trace_id, action_id: event.context?.['action_id'] ?? null }
  const main: NewDomainEvent = {
    id,
    type: typeOf(action, told),
    subject: resource,
    happenedAt,
    data: JSON.stringify({ ...common, resource, before: event.before, after: event.after }),
  }
  return [
    main,
    ...openedBy(action, told).map((violation) => ({
      id: `${id}/${violation.id}`,
      type: 'violation.opened',
      subject: `violations/${violation.id}`,
      happenedAt,
      data: JSON.stringify({
        ...common,
        resource: `violations/${violation.id}`,
        before: null,
        after: { state: 'open', rule: violation.rule, severity: violation.severity, event: resource },
      }),
    })),
  ]
}

/** `action`: RESOURCE.ACTION. */
function typeOf(action: string, told: Told): string {
  const own = OWN[action as keyof typeof OWN]?.(told)
  if (own != null) return own
  const isTask = action === 'workflows.write' && told.after !== null && 'workflow_id' in told.after
  const noun = isTask ? NOUNS.tasks : NOUNS[action.slice(0, action.indexOf('.')) as Resource]
  return `${noun}.${endingOf(action, told)}`
}

function endingOf(action: string, { before, after }: Told): (typeof ENDINGS)[number] {
  // What a call does to a secret, or to deliveries, has nothing before it and is no new webhook.
  if (action === 'connectors.execute' || after?.['secret'] === 'new') return 'changed'
  if (before === null && after !== null) return 'created'
  return after === null ? 'deleted' : 'changed'
}

function openedBy(action: string, { after }: Told): { id: string; rule: unknown; severity: unknown }[] {
  const opened = action === 'events.write' ? after?.['violations'] : undefined
  if (!Array.isArray(opened)) return []
  return opened
    .map((one) => members(one))
    .filter((one) => one !== null)
    .map(({ id, rule, severity }) => ({ id: String(id), rule, severity }))
}

function members(value: unknown): Members | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Members) : null
}
