import { extentOf, type Action, type Resource } from '#governance/access/permission.ts'
import { SHIPPED_ROLES } from '#governance/access/shipped-roles.ts'

export type WorkCall = {
  readonly call: readonly [method: string, url: string, body?: unknown]
  readonly permission: string
  /** One's own suffices: then a role with a permission on its own is let in, and sees only that. */
  readonly ownCounts?: boolean
}

/**
 * The calls that people work with, each with a body that is right in form, for whoever asks all of them of all roles. `unknown`: an id that is
 * nobody's.
 */
export function workCalls(unknown: string): WorkCall[] {
  const policy = { name: 'X', policy_type: 'opa_rego', rego_content: 'package x' }
  const conditions = { fact: 'user.mfa_enabled', operator: 'equal', value: true }
  const rule = { id: 'x-1', name: 'X', framework: 'NIST', severity: 'low', conditions }
  return [
    { call: ['GET', '/api/v1/policies'], permission: 'read:policies' },
    { call: ['POST', '/api/v1/policies', policy], permission: 'write:policies' },
    { call: ['GET', `/api/v1/policies/${unknown}`], permission: 'read:policies' },
    { call: ['PATCH', `/api/v1/policies/${unknown}`, { name: 'X' }], permission: 'write:policies' },
    { call: ['GET', `/api/v1/policies/${unknown}/versions`], permission: 'read:policies' },
    { call: ['POST', `/api/v1/policies/${unknown}/evaluate`, { input: {} }], permission: 'execute:policies' },
    { call: ['POST', `/api/v1/policies/${unknown}/activate`, {}], permission: 'execute:policies' },
    { call: ['POST', `/api/v1/policies/${unknown}/rollback`, {}], permission: 'execute:policies' },
    { call: ['POST', `/api/v1/policies/${unknown}/deactivate`], permission: 'execute:policies' },
    { call: ['GET', '/api/v1/bundle'], permission: 'read:policies' },
    { call: ['GET', '/bundles/policies.tar.gz'], permission: 'read:policies' },
    { call: ['GET', '/api/v1/compliance/workflows'], permission: 'read:workflows' },
    {
      call: ['POST', '/api/v1/compliance/workflows', { regulation: 'soc2', name: 'X' }],
      permission: 'write:workflows',
    },
    { call: ['GET', `/api/v1/compliance/workflows/${unknown}`], permission: 'read:workflows' },
    { call: ['GET', `/api/v1/compliance/workflows/${unknown}/history`], permission: 'read:workflows' },
    {
      call: ['POST', `/api/v1/compliance/workflows/${unknown}/transition`, { status: 'in_review' }],
      permission: 'execute:workflows',
    },
    { call: ['POST', `/api/v1/compliance/workflows/${unknown}/pause`], permission: 'pause:workflows' },
    { call: ['POST', `/api/v1/compliance/workflows/${unknown}/resume`], permission: 'pause:workflows' },
    { call: ['GET', '/api/v1/compliance/tasks'], permission: 'read:tasks', ownCounts: true },
    { call: ['POST', '/api/v1/compliance/tasks', { workflow_id: unknown, title: 'X' }], permission: 'write:workflows' },
    {
      call: ['POST', `/api/v1/compliance/tasks/${unknown}/status`, { status: 'done' }],
      permission: 'execute:tasks',
      ownCounts: true,
    },
    { call: ['POST', `/api/v1/compliance/tasks/${unknown}/assign`, { assigned_to: null }], permission: 'assign:tasks' },
    { call: ['GET', '/api/v1/compliance/dashboard'], permission: 'read:workflows' },
    { call: ['GET', '/api/v1/audit-trail'], permission: 'read:audit' },
    { call: ['GET', '/api/v1/evidence'], permission: 'read:evidence' },
    { call: ['GET', `/api/v1/evidence/${unknown}`], permission: 'read:evidence' },
    { call: ['GET', `/api/v1/evidence/${unknown}/file`], permission: 'read:evidence' },
    { call: ['POST', '/api/v1/evidence?name=X', {}], permission: 'write:evidence' },
    { call: ['POST', '/api/v1/evidence/collect', { kind: 'scan', scan_id: unknown }], permission: 'write:evidence' },
    { call: ['PATCH', `/api/v1/evidence/${unknown}`, { name: 'X' }], permission: 'write:evidence' },
    { call: ['DELETE', `/api/v1/evidence/${unknown}`], permission: 'delete:evidence' },
    {
      call: ['POST', '/api/compliance/event', { source: 'activity', eventType: 'login', details: {} }],
      permission: 'write:events',
    },
    { call: ['GET', '/api/compliance/violations'], permission: 'read:violations' },
    { call: ['GET', `/api/compliance/violations/${unknown}`], permission: 'read:violations' },
    { call: ['GET', `/api/compliance/violations/${unknown}/attempts`], permission: 'read:violations' },
    {
      call: ['POST', `/api/compliance/attempts/${unknown}/undo`, { comment: 'x' }],
      permission: 'override:violations',
    },
    { call: ['GET', '/api/compliance/blocks'], permission: 'read:violations' },
    {
      call: ['POST', `/api/compliance/blocks/${unknown}/lift`, { comment: 'x' }],
      permission: 'override:violations',
    },
    { call: ['POST', `/api/compliance/resolve/${unknown}`, { comment: 'x' }], permission: 'execute:violations' },
    { call: ['GET', '/api/compliance/stats'], permission: 'read:violations' },
    { call: ['GET', '/api/compliance/reference/tier'], permission: 'read:violations' },
    { call: ['PUT', '/api/compliance/reference/tier/gold', { models: [] }], permission: 'write:violations' },
    { call: ['DELETE', '/api/compliance/reference/tier/not-there'], permission: 'write:violations' },
    { call: ['GET', '/api/compliance/resolution-settings'], permission: 'read:violations' },
    { call: ['PUT', '/api/compliance/resolution-settings', { mode: 'dry_run' }], permission: 'override:violations' },
    { call: ['GET', '/api/v1/webhooks'], permission: 'read:connectors' },
    { call: ['POST', '/api/v1/webhooks', { url: 'https://hooks.example/x' }], permission: 'write:connectors' },
    { call: ['GET', `/api/v1/webhooks/${unknown}`], permission: 'read:connectors' },
    { call: ['PATCH', `/api/v1/webhooks/${unknown}`, { state: 'disabled' }], permission: 'write:connectors' },
    { call: ['POST', `/api/v1/webhooks/${unknown}/secret`], permission: 'write:connectors' },
    { call: ['DELETE', `/api/v1/webhooks/${unknown}`], permission: 'write:connectors' },
    { call: ['GET', `/api/v1/webhooks/${unknown}/deliveries`], permission: 'read:connectors' },
    { call: ['POST', `/api/v1/webhooks/${unknown}/retry`], permission: 'execute:connectors' },
    { call: ['GET', '/rules'], permission: 'read:rules' },
    { call: ['POST', '/rules', rule], permission: 'write:rules' },
    { call: ['GET', '/rules/not-there'], permission: 'read:rules' },
    { call: ['PATCH', '/rules/not-there', { is_active: false }], permission: 'write:rules' },
    { call: ['DELETE', '/rules/not-there'], permission: 'delete:rules' },
    { call: ['POST', '/api/scans', { rule_ids: ['not-there'] }], permission: 'execute:scans' },
    { call: ['GET', '/api/scans'], permission: 'read:scans' },
    { call: ['GET', `/api/scans/${unknown}`], permission: 'read:scans' },
    { call: ['GET', `/api/scans/${unknown}/results`], permission: 'read:scans' },
    { call: ['GET', `/api/scans/${unknown}/differences?against=${unknown}`], permission: 'read:scans' },
    { call: ['GET', '/api/scan-schedules'], permission: 'read:scans' },
    { call: ['POST', '/api/scan-schedules', { cron: '0 3 * * *' }], permission: 'write:scans' },
    { call: ['PATCH', `/api/scan-schedules/${unknown}`, { is_active: false }], permission: 'write:scans' },
    { call: ['DELETE', `/api/scan-schedules/${unknown}`], permission: 'write:scans' },
    { call: ['GET', '/api/remediation/'], permission: 'read:remediation', ownCounts: true },
    { call: ['POST', '/api/remediation/', { result_id: unknown }], permission: 'write:remediation' },
    { call: ['GET', `/api/remediation/${unknown}`], permission: 'read:remediation', ownCounts: true },
    { call: ['GET', `/api/remediation/${unknown}/history`], permission: 'read:remediation', ownCounts: true },
    {
      call: ['PATCH', `/api/remediation/${unknown}`, { metadata: {} }],
      permission: 'write:remediation',
      ownCounts: true,
    },
    {
      call: ['POST', `/api/remediation/${unknown}/status`, { status: 'closed' }],
      permission: 'execute:remediation',
      ownCounts: true,
    },
    { call: ['POST', `/api/remediation/${unknown}/assign`, { assigned_to: null }], permission: 'assign:remediation' },
    {
      call: ['POST', `/api/remediation/${unknown}/comments`, { text: 'x' }],
      permission: 'write:remediation',
      ownCounts: true,
    },
    {
      call: ['POST', `/api/remediation/${unknown}/verify`, { verified: true }],
      permission: 'execute:remediation',
      ownCounts: true,
    },
  ]
}

/** The shipped roles that a call lets in. */
export function rolesFor({ permission, ownCounts = false }: WorkCall): string[] {
  const [action, resource] = permission.split(':') as [Action, Resource]
  return SHIPPED_ROLES.filter(({ permissions }) => {
    const extent = extentOf(permissions, null, action, resource)
    return extent === 'all' || (ownCounts && extent === 'own')
  }).map(({ name }) => name)
}
