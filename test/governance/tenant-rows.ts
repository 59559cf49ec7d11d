import { expect, vi } from 'vitest'
import type { Schema } from '#test/support/openapi.ts'
import { FIRST_PASSWORD, type GovernanceStack } from '#test/support/governance.ts'

/** One row of each kind that calls name, made in a tenant through the API, for whoever has to name them. */
export type TenantRows = {
  /**
   * What stands for the parameters of a path of the OpenAPI document (`/rules/{id}`), as somebody of the tenant would say it.
   * @throws where nobody has said it yet: a new path needs a row here
   */
  readonly parametersOf: (path: string) => Readonly<Record<string, string>>
  /** What a member of a body or a query is, by its name, where its form alone does not make it right: `scan_id` an id of the tenant. */
  readonly values: Readonly<Record<string, string>>
  /** A body with these. */
  readonly filled: (body: unknown, schema: Schema) => unknown
  /** Everything of this tenant that no answer to another may hold: ids, names, texts. */
  readonly secrets: readonly string[]
}

const PDF = '%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF\n'
const REGO = 'package x\n\ndecision := {"evaluated": true, "violations": []}'

export async function makeTenantRows(stack: GovernanceStack, tenant: string): Promise<TenantRows> {
  const made = async (url: string, body: unknown, status = 201): Promise<{ id: string }> => {
    const answer = await stack.call(tenant, 'POST', url, body)
    expect([url, answer.status, answer.status === status ? '' : answer.body]).toEqual([url, status, ''])
    return answer.body as { id: string }
  }
  const settings = async (mode: string): Promise<void> => {
    const answer = await stack.call(tenant, 'PUT', '/api/compliance/resolution-settings', { mode })
    expect(answer.status).toBe(200)
  }
  const name = `Of ${tenant} alone`
  const key = `only-${tenant}`
  const user = await made('/api/v1/users', { email: `row@${tenant}.example`, name, password: FIRST_PASSWORD })
  const account = await made('/api/v1/service-accounts', { name: key })
  const role = await made('/api/v1/roles', { name, permissions: [] })
  const binding = await made('/api/v1/role-bindings', {
    role_id: role.id,
    principal_kind: 'user',
    principal_id: user.id,
  })
  const token = await made('/api/v1/tokens', { name, expires_in_days: 1 })
  const policy = await made('/api/v1/policies', { name, policy_type: 'opa_rego', rego_content: REGO })
  const workflow = await made('/api/v1/compliance/workflows', { regulation: 'soc2', name })
  const task = await made('/api/v1/compliance/tasks', { workflow_id: workflow.id, title: name, assigned_to: user.id })
  const conditions = { fact: 'user.mfa_enabled', operator: 'equal', value: true }
  await made('/rules', { id: key, name, framework: 'NIST', severity: 'low', conditions })
  const scan = await made('/api/scans', { rule_ids: [key] })
  const results = await stack.call(tenant, 'GET', `/api/scans/${scan.id}/results?passed=false`)
  const [result] = results.body.items as { id: string }[]
  const schedule = await made('/api/scan-schedules', { cron: '0 3 1 1 *', rule_ids: [key] })
  const remediation = await stack.call(tenant, 'GET', '/api/remediation/')
  const [action] = remediation.body.items as { id: string }[]
  // Contained at once: an agent without supervision. What comes after it is left as it is.
  await settings('on')
  const rogue = (await made('/api/compliance/event', {
    source: 'maos',
    eventType: 'agent_action',
    details: { agent_id: key, action: 'pay', supervision_id: 'none' },
  })) as { id: string; violations?: { id: string }[] }
  const first = async (url: string): Promise<string> => (await stack.call(tenant, 'GET', url)).body.items[0]?.id ?? ''
  const attempts = `/api/compliance/violations/${rogue.violations?.[0]?.id}/attempts`
  await vi.waitFor(async () => expect(await first(attempts)).not.toBe(''), { timeout: 60_000, interval: 200 })
  await settings('dry_run')
  const event = { source: 'ai_model', eventType: 'use', details: { client_id: key, model: 'unknown' } }
  const judged = (await made('/api/compliance/event', event)) as { id: string; violations?: { id: string }[] }
  const [violation] = judged.violations ?? []
  const record = await stack.call(tenant, 'PUT', `/api/compliance/reference/tier/${key}`, { models: [key] })
  expect(record.status).toBe(200)
  const webhook = await made('/api/v1/webhooks', { url: `https://${key}.invalid/`, events: ['rules.delete'] })
  const upload = await fetch(`${stack.process().url}/api/v1/evidence?${new URLSearchParams({ name }).toString()}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${stack.token(tenant)}`, 'content-type': 'application/pdf' },
    body: PDF,
  })
  expect(upload.status).toBe(201)
  const evidence = (await upload.json()) as { id: string }

  const ids = new Map<string, string>([
    ['/api/v1/users', user.id],
    ['/api/v1/service-accounts', account.id],
    ['/api/v1/roles', role.id],
    ['/api/v1/role-bindings', binding.id],
    ['/api/v1/tokens', token.id],
    ['/api/v1/actions', await newestAction(stack, tenant)],
    ['/api/v1/policies', policy.id],
    ['/api/v1/compliance/workflows', workflow.id],
    ['/api/v1/compliance/tasks', task.id],
    ['/rules', key],
    ['/api/scans', scan.id],
    ['/api/scan-schedules', schedule.id],
    ['/api/remediation', action?.id ?? ''],
    ['/api/compliance/violations', violation?.id ?? ''],
    ['/api/compliance/resolve', violation?.id ?? ''],
    ['/api/compliance/attempts', await first(attempts)],
    ['/api/compliance/blocks', await first('/api/compliance/blocks')],
    ['/api/v1/webhooks', webhook.id],
    ['/api/v1/evidence', evidence.id],
  ])
  for (const [path, id] of ids) expect([path, id]).not.toEqual([path, ''])

  const values: Record<string, string> = {
    role_id: role.id,
    principal_id: user.id,
    user_id: user.id,
    assigned_to: user.id,
    service_account_id: account.id,
    workflow_id: workflow.id,
    scan_id: scan.id,
    against: scan.id,
    result_id: result?.id ?? '',
    rule_ids: key,
    regulation: 'soc2',
    rego_content: REGO,
    cron: '0 3 1 1 *',
  }
  return {
    parametersOf: (path) => {
      if (!path.includes('{')) return {}
      if (path.startsWith('/api/compliance/reference/')) return { kind: 'tier', key }
      if (path === '/api/v1/regulations/{reg}/controls') return { reg: 'soc2' }
      const id = ids.get(path.replace(/\/\{id\}.*$/, ''))
      if (id === undefined) throw new Error(`no row that ${path} could name: say one in tenant-rows.ts`)
      return { id }
    },
    values,
    filled: (body, schema) => {
      if (typeof body !== 'object' || body === null) return body
      return Object.fromEntries(
        Object.entries(body).map(([member, value]) => {
          const right = values[member]
          if (right === undefined) return [member, value]
          return [member, schema.properties?.[member]?.type === 'array' ? [right] : right]
        }),
      )
    },
    secrets: [...new Set([...ids.values(), name, key, result?.id ?? '', `row@${tenant}.example`])],
  }
}

async function newestAction(stack: GovernanceStack, tenant: string): Promise<string> {
  const [event] = (await stack.events(tenant)).slice(-1)
  return (event?.context as { action_id?: string } | undefined)?.action_id ?? ''
}
