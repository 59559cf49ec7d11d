import { describe, expect, it } from 'vitest'
import type { AuditEvent } from '#core/audit/event.ts'
import { outcomeEvent } from '../actions/event.ts'
import { DOMAIN_EVENT_TYPES, domainEventsOf } from './event.ts'

function done(action: string, before: AuditEvent['before'], after: AuditEvent['after']): AuditEvent {
  const resourceType = action.split('.')[0] ?? ''
  const subject = {
    id: 'a1',
    tenant: 'acme',
    actor: 'ines@acme.example',
    action,
    resource: `${resourceType}/x`,
    resourceType,
    resourceId: 'x',
    traceId: 'a'.repeat(32),
    requestId: 'r1',
  }
  return outcomeEvent(subject, { state: 'committed', before, after, latencyMs: 1 }, 1_700_000_000_000)
}

describe('what happened by an action', () => {
  it.each([
    { action: 'policies.write', before: null, after: { name: 'P' }, want: ['policy.created'] },
    { action: 'policies.write', before: { name: 'P' }, after: { name: 'Q' }, want: ['policy.changed'] },
    {
      action: 'policies.execute',
      before: { active_version: 1 },
      after: { active_version: 2 },
      want: ['policy.activated'],
    },
    {
      action: 'policies.execute',
      before: { active_version: 1 },
      after: { active_version: null },
      want: ['policy.deactivated'],
    },
    { action: 'policies.execute', before: { revision: 'a' }, after: { revision: 'b' }, want: ['bundle.published'] },
    { action: 'rules.delete', before: { id: 'r' }, after: null, want: ['rule.deleted'] },
    { action: 'scans.execute', before: null, after: { failed: 1 }, want: ['scan.finished'] },
    { action: 'scans.write', before: null, after: { cron: '0 3 * * *' }, want: ['scan_schedule.created'] },
    { action: 'scans.write', before: { cron: '0 3 * * *' }, after: null, want: ['scan_schedule.deleted'] },
    { action: 'remediation.write', before: null, after: { status: 'open' }, want: ['remediation.created'] },
    {
      action: 'remediation.execute',
      before: { status: 'open' },
      after: { status: 'closed' },
      want: ['remediation.status_changed'],
    },
    {
      action: 'remediation.execute',
      before: { status: 'resolved' },
      after: { status: 'resolved' },
      want: ['remediation.changed'],
    },
    { action: 'remediation.assign', before: {}, after: { assigned_to: 'u' }, want: ['remediation.assigned'] },
    { action: 'workflows.write', before: null, after: { name: 'W' }, want: ['workflow.created'] },
    { action: 'workflows.write', before: null, after: { title: 'T', workflow_id: 'w' }, want: ['task.created'] },
    {
      action: 'workflows.execute',
      before: { old_status: 'draft' },
      after: { new_status: 'in_review' },
      want: ['workflow.status_changed'],
    },
    { action: 'workflows.pause', before: { paused: false }, after: { paused: true }, want: ['workflow.paused'] },
    { action: 'workflows.pause', before: { paused: true }, after: { paused: false }, want: ['workflow.resumed'] },
    { action: 'evidence.write', before: null, after: { name: 'E' }, want: ['evidence.added'] },
    { action: 'evidence.write', before: { name: 'E' }, after: { name: 'F' }, want: ['evidence.changed'] },
    { action: 'events.write', before: null, after: { violations: [] }, want: ['compliance_event.recorded'] },
    {
      action: 'events.write',
      before: null,
      after: {
        violations: [
          { id: 'v1', rule: 'r', severity: 'high' },
          { id: 'v2', rule: 's', severity: 'low' },
        ],
      },
      want: ['compliance_event.recorded', 'violation.opened', 'violation.opened'],
    },
    {
      action: 'violations.execute',
      before: { state: 'open' },
      after: { state: 'resolved', rule: 'r' },
      want: ['violation.resolved'],
    },
    {
      action: 'violations.execute',
      before: { state: 'open' },
      after: { outcome: 'resolved' },
      want: ['violation.resolved'],
    },
    {
      action: 'violations.execute',
      before: { state: 'open' },
      after: { outcome: 'contained' },
      want: ['violation.contained'],
    },
    {
      action: 'violations.execute',
      before: { state: 'open' },
      after: { outcome: 'would_act' },
      want: ['violation.resolution_tried'],
    },
    {
      action: 'violations.override',
      before: { mode: 'off' },
      after: { mode: 'on' },
      want: ['resolution_settings.changed'],
    },
    { action: 'violations.write', before: null, after: { kind: 'tier' }, want: ['reference.created'] },
    { action: 'roles.assign', before: null, after: { role: 'r' }, want: ['role.granted'] },
    { action: 'roles.assign', before: { role: 'r' }, after: null, want: ['role.revoked'] },
    { action: 'connectors.write', before: null, after: { secret: 'new' }, want: ['webhook.changed'] },
    { action: 'connectors.execute', before: null, after: { revived: 3 }, want: ['webhook.changed'] },
    { action: 'tokens.delete', before: { name: 't' }, after: null, want: ['token.deleted'] },
  ])('$action is $want', ({ action, before, after, want }) => {
    const told = domainEventsOf(done(action, before, after))
    expect(told.map(({ type }) => type)).toEqual(want)
    for (const { type } of told) expect(DOMAIN_EVENT_TYPES).toContain(type)
    expect(new Set(told.map(({ id }) => id)).size).toBe(told.length)
  })
  it('carries who did what, and where the rest is', () => {
    const [recorded, opened] = domainEventsOf(
      done('events.write', null, { violations: [{ id: 'v1', rule: 'r', severity: 'high' }] }),
    )
    expect(JSON.parse(recorded?.data ?? '')).toEqual({
      tenant: 'acme',
      actor: 'ines@acme.example',
      action: 'events.write',
      trace_id: 'a'.repeat(32),
      action_id: 'a1',
      resource: 'events/x',
      before: null,
      after: { violations: [{ id: 'v1', rule: 'r', severity: 'high' }] },
    })
    expect(opened).toMatchObject({ subject: 'violations/v1', id: `${recorded?.id}/v1` })
    expect(JSON.parse(opened?.data ?? '')).toMatchObject({
      resource: 'violations/v1',
      after: { state: 'open', rule: 'r', severity: 'high', event: 'events/x' },
    })
  })
  it('no type is there twice', () => {
    expect(new Set(DOMAIN_EVENT_TYPES).size).toBe(DOMAIN_EVENT_TYPES.length)
  })
})
