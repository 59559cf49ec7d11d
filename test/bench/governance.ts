// How long lists take where a tenant has 100,000 rows of each kind, through the API:
//   node test/bench/governance.ts [--rows 100000] [--calls 60]
import { parseArgs } from 'node:util'
import { startGovernanceStack, type GovernanceStack } from '#test/support/governance.ts'

const GOAL_MS = 100
const { values } = parseArgs({
  options: { rows: { type: 'string', default: '100000' }, calls: { type: 'string', default: '60' } },
})
const [rows, calls] = [Number(values.rows), Number(values.calls)]
if (!(rows >= 1_000 && calls >= 10)) throw new Error('--rows is 1000 or more, --calls 10 or more')

const AT = "now() - n * interval '1 second'"
const ID = "('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"
const SCAN = "'00000000-0000-7000-8000-000000000001'"
/** What fills each table. */
const FILL: readonly string[] = [
  `INSERT INTO signet.users (tenant, id, email, name, created_at) SELECT 'acme', ${ID}, 'u' || n || '@acme.example', 'U', ${AT} FROM generate_series(1, $n) n`,
  `INSERT INTO signet.service_accounts (tenant, id, name, created_at) SELECT 'acme', ${ID}, 'sa-' || n, ${AT} FROM generate_series(1, $n) n`,
  `INSERT INTO signet.scans (tenant, id, org_id, trigger, requested_by, passed, failed, started_at, created_at)
   SELECT 'acme', ${ID}, 'org-' || n % 10, 'manual', 'x', 1, 1, ${AT}, ${AT} FROM generate_series(1, $n) n`,
  `INSERT INTO signet.scan_results (tenant, id, scan_id, org_id, rule_id, finding, severity, compliance_framework, details, passed, created_at)
   SELECT 'acme', ${ID}, ${SCAN}, 'org-1', 'rule-' || n, 'finding', 'high', 'NIST', '{"facts": {"a": 1}}', n % 2 = 0, ${AT} FROM generate_series(1, $n) n`,
  `INSERT INTO signet.remediation_actions (tenant, id, result_id, rule_id, severity, finding, status, assigned_to, due_at, created_at)
   SELECT 'acme', ${ID}, ${ID}, 'rule-' || n, 'high', 'finding', (ARRAY['open', 'in_progress', 'resolved', 'closed'])[1 + n % 4], ('00000000-0000-7000-8000-' || lpad(to_hex(1 + n % 100), 12, '0'))::uuid, now(), ${AT}
   FROM generate_series(1, $n) n`,
  `INSERT INTO signet.workflows (tenant, id, kind, regulation, name, description, status, required_approvals, requested_by, requester_kind, requester_id, created_at)
   SELECT 'acme', ${ID}, 'review', 'soc2', 'Review', '', (ARRAY['draft', 'in_review', 'approved', 'completed'])[1 + n % 4], 1, 'x', 'user', ${ID}, ${AT} FROM generate_series(1, $n) n`,
  `INSERT INTO signet.workflow_approvals (tenant, workflow_id, kind, id, name) SELECT 'acme', ${ID}, 'user', ${ID}, 'lead' FROM generate_series(1, $n) n`,
  `INSERT INTO signet.tasks (tenant, id, workflow_id, title, assigned_to, created_at)
   SELECT 'acme', ${ID}, ${ID}, 'Look', ('00000000-0000-7000-8000-' || lpad(to_hex(1 + n % 100), 12, '0'))::uuid, ${AT} FROM generate_series(1, $n) n`,
  `INSERT INTO signet.compliance_events (tenant, id, source, event_type, subject, amount, details, made_by, created_at)
   SELECT 'acme', ${ID}, 'data_access', 'read', 'actor-' || n % 100, 5, '{}', 'x', ${AT} FROM generate_series(1, $n) n`,
  `INSERT INTO signet.compliance_violations (tenant, id, event_id, rule, severity, severity_rank, summary, created_at)
   SELECT 'acme', ${ID}, ${ID}, 'some_rule', (ARRAY['critical', 'high', 'medium', 'low'])[1 + n % 4], 1 + n % 4, 'summary', ${AT} FROM generate_series(1, $n) n`,
]
const USER = '00000000-0000-7000-8000-000000000005'
const LISTS: readonly string[] = [
  '/api/v1/users',
  '/api/v1/service-accounts',
  '/api/scans',
  '/api/scans?org_id=org-3',
  '/api/scans/00000000-0000-7000-8000-000000000001/results',
  '/api/scans/00000000-0000-7000-8000-000000000001/results?passed=false',
  '/api/remediation/',
  '/api/remediation/?status=open',
  `/api/remediation/?assigned_to=${USER}`,
  '/api/v1/compliance/workflows',
  '/api/v1/compliance/workflows?status=in_review',
  '/api/v1/compliance/tasks',
  `/api/v1/compliance/tasks?assigned_to=${USER}`,
  '/api/compliance/violations',
  '/api/compliance/stats',
  '/api/v1/compliance/dashboard',
]

process.stderr.write('starting, and filling the tables\n')
const stack = await startGovernanceStack()
try {
  await stack.call('acme', 'PUT', '/api/compliance/resolution-settings', { mode: 'off' })
  for (const sql of FILL) await stack.query(sql.replace('$n', String(rows)), 'acme')
  // As autovacuum leaves them.
  await stack.query('VACUUM ANALYZE', 'acme')
  process.stdout.write(
    `${rows.toLocaleString('en')} rows of each kind, ${calls} calls of each list, pages of 100, the first and those after it\n\n`,
  )
  process.stdout.write('| list | p50 ms | p95 ms | goal |\n|---|---:|---:|---|\n')
  let worst = 0
  for (const url of LISTS) {
    const { p50, p95 } = await measure(stack, url)
    worst = Math.max(worst, p95)
    process.stdout.write(
      `| \`${url.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, '{id}')}\` | ${p50.toFixed(1)} | ${p95.toFixed(1)} | < ${GOAL_MS} |\n`,
    )
  }
  process.exitCode = worst < GOAL_MS ? 0 : 1
} finally {
  await stack.stop()
}

async function measure(one: GovernanceStack, url: string): Promise<{ p50: number; p95: number }> {
  const times: number[] = []
  let cursor: string | null = null
  for (let call = 0; call < calls; call++) {
    const page = cursor === null ? url : `${url}${url.includes('?') ? '&' : '?'}cursor=${cursor}`
    const startedMs = performance.now()
    const { status, body } = await one.call('acme', 'GET', page)
    times.push(performance.now() - startedMs)
    if (status !== 200) throw new Error(`${page}: ${status}`)
    cursor = (body as { next_cursor?: string | null }).next_cursor ?? null
  }
  const sorted = times.toSorted((a, b) => a - b)
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
  return { p50: at(0.5), p95: at(0.95) }
}
