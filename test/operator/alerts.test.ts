import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse, parseAllDocuments, stringify } from 'yaml'
import { DASHBOARDS, PALETTE } from '#tools/kubernetes/dashboards.ts'
import { helm } from '#tools/kubernetes/helm.ts'

const ROOT = path.resolve(import.meta.dirname, '../..')
const RUNBOOKS = 'https://runbooks.example/signet'

type Rule = {
  readonly alert: string
  readonly expr: string
  readonly for?: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
}
/** `firing` and `quiet`: series as promtool writes them, a sample a minute. `at`: minutes. */
type Case = {
  readonly alert: string
  readonly firing: Readonly<Record<string, string>>
  readonly at: number
  /** Labels of the alert, beside its severity. */
  readonly wantLabels: Readonly<Record<string, string>>
  readonly quiet: Readonly<Record<string, string>>
  /** The firing series, a moment before `for` is over. */
  readonly notYetAt?: number
}

const POD = { namespace: 'reports', pod: 'api-0' }
const per = (labels: Readonly<Record<string, string>>): string =>
  Object.entries(labels)
    .map(([name, value]) => `${name}="${value}"`)
    .join(',')
const TENANT = { namespace: 'reports', tenant: 'acme' }
const RULE = { ...TENANT, rule: 'external-approval' }

const CASES: readonly Case[] = [
  {
    alert: 'SignetGovernanceBundlesFailing',
    firing: {
      'signet_governance_bundles_total{namespace="signet-system",pod="governance-0",outcome="failed"}': '0+1x60',
    },
    at: 20,
    notYetAt: 10,
    wantLabels: { namespace: 'signet-system' },
    // One that succeeds when it is tried again; and those that succeed.
    quiet: {
      'signet_governance_bundles_total{namespace="signet-system",pod="governance-0",outcome="failed"}': '0 0 1x60',
      'signet_governance_bundles_total{namespace="signet-system",pod="governance-0",outcome="published"}': '0+1x60',
    },
  },
  {
    alert: 'SignetStampsMissing',
    firing: { [`stamps_missing_total{${per({ ...TENANT, reason: 'aborted' })},pod="api-0"}`]: '0+1x30' },
    at: 12,
    notYetAt: 4,
    wantLabels: { ...TENANT, reason: 'aborted' },
    // One, and no more: it does not stay above 0 for as long as the alert waits.
    quiet: { [`stamps_missing_total{${per({ ...TENANT, reason: 'aborted' })},pod="api-0"}`]: '0 0 1x30' },
  },
  {
    alert: 'SignetStampsRejected',
    firing: { [`stamps_rejected_total{${per(RULE)}}`]: '0+3x30' },
    at: 12,
    notYetAt: 4,
    wantLabels: RULE,
    quiet: { [`stamps_rejected_total{${per(RULE)}}`]: '7x30' },
  },
  {
    alert: 'SignetApprovalBlocked',
    firing: { [`approval_blocked_total{${per(RULE)}}`]: '0+1x30' },
    at: 12,
    notYetAt: 4,
    wantLabels: RULE,
    quiet: { [`approval_blocked_total{${per(RULE)}}`]: '7x30' },
  },
  {
    alert: 'SignetForgedStamps',
    firing: { [`signet_forged_stamps_total{${per(TENANT)}}`]: '0 0 1x10' },
    at: 3,
    wantLabels: TENANT,
    quiet: { [`signet_forged_stamps_total{${per(TENANT)}}`]: '4x10' },
  },
  {
    alert: 'SignetRulesUndecidable',
    firing: { [`signet_rules_undecidable_total{namespace="reports",rule="residency"}`]: '0+1x40' },
    at: 20,
    notYetAt: 14,
    wantLabels: { namespace: 'reports', rule: 'residency' },
    quiet: { [`signet_rules_undecidable_total{namespace="reports",rule="residency"}`]: '0 0 1 2 2x40' },
  },
  {
    alert: 'SignetSpoolBacklog',
    firing: { [`signet_audit_oldest_seconds{${per(POD)}}`]: '0+60x30' },
    at: 15,
    notYetAt: 7,
    wantLabels: POD,
    quiet: { [`signet_audit_oldest_seconds{${per(POD)}}`]: '0 60 120 180 240 0x30' },
  },
  {
    alert: 'SignetSpoolUnwritable',
    firing: { [`signet_audit_spool_writable{${per(POD)}}`]: '1 0x10' },
    at: 3,
    wantLabels: POD,
    quiet: { [`signet_audit_spool_writable{${per(POD)}}`]: '1x10' },
  },
  {
    alert: 'SignetSpoolUnwritable',
    firing: { [`signet_spool_refusals_total{${per(POD)}}`]: '0+1x10' },
    at: 4,
    wantLabels: POD,
    quiet: { [`signet_spool_refusals_total{${per(POD)}}`]: '0x10' },
  },
  {
    alert: 'SignetAuditRefused',
    firing: { [`signet_audit_refused_total{${per(POD)}}`]: '0 1x20' },
    at: 10,
    wantLabels: POD,
    quiet: { [`signet_audit_refused_total{${per(POD)}}`]: '1x20' },
  },
  {
    alert: 'SignetLedgerContradictsItself',
    firing: { [`signet_audit_ledger_consistent{${per(POD)}}`]: '1 0x10' },
    at: 1,
    wantLabels: POD,
    quiet: { [`signet_audit_ledger_consistent{${per(POD)}}`]: '1x10' },
  },
  {
    alert: 'SignetLedgerTampered',
    firing: { 'signet_ledger_verification_failures_total{fault="edit",pod="a"}': '0 0 1x20' },
    at: 6,
    notYetAt: 1,
    wantLabels: { fault: 'edit' },
    // What was found before the process began to be watched is for whoever was told then.
    quiet: { 'signet_ledger_verification_failures_total{fault="edit",pod="a"}': '3x40' },
  },
  {
    alert: 'SignetTreeBehind',
    firing: { 'signet_ledger_tree_failures_total{pod="a"}': '0+1x40' },
    at: 20,
    notYetAt: 8,
    wantLabels: {},
    quiet: { 'signet_ledger_tree_failures_total{pod="a"}': '5x40' },
  },
  {
    alert: 'SignetVerifierBehind',
    firing: {
      'signet_ledger_verification_errors_total{code="DATABASE_UNAVAILABLE",pod="a"}': '0+1x90',
      'signet_ledger_verified_links_total{pod="a"}': '7x90',
    },
    at: 60,
    notYetAt: 20,
    wantLabels: {},
    // An error now and then, and it goes on.
    quiet: {
      'signet_ledger_verification_errors_total{code="DATABASE_UNAVAILABLE",pod="a"}': '0+1x90',
      'signet_ledger_verified_links_total{pod="a"}': '0+100x90',
    },
  },
  {
    alert: 'SignetArchiveFailing',
    firing: { 'signet_ledger_archive_failures_total{what="lock",code="ARCHIVE_UNAVAILABLE",pod="a"}': '0+1x90' },
    at: 40,
    notYetAt: 20,
    wantLabels: { what: 'lock', code: 'ARCHIVE_UNAVAILABLE' },
    quiet: { 'signet_ledger_archive_failures_total{what="lock",code="ARCHIVE_UNAVAILABLE",pod="a"}': '3x90' },
  },
  {
    alert: 'SignetWallAttempt',
    firing: { 'signet_ledger_wall_attempts_total{kind="permission-denied",pod="a"}': '0 0 1x20' },
    at: 5,
    notYetAt: 1,
    wantLabels: { kind: 'permission-denied' },
    quiet: { 'signet_ledger_wall_attempts_total{kind="definition-migrated",pod="a"}': '0 0 1x20' },
  },
  {
    alert: 'SignetLedgerDown',
    firing: { 'up{job="signet-ledger",pod="a"}': '1 0x20', 'up{job="signet-ledger",pod="b"}': '1 0x20' },
    at: 8,
    notYetAt: 5,
    // `absent` of a comparison has no labels.
    wantLabels: {},
    quiet: { 'up{job="signet-ledger",pod="a"}': '1x20', 'up{job="signet-ledger",pod="b"}': '0x20' },
  },
  {
    alert: 'SignetLedgerSlow',
    firing: {
      'signet_ledger_append_seconds_bucket{le="1"}': '0x40',
      'signet_ledger_append_seconds_bucket{le="2.5"}': '0+10x40',
      'signet_ledger_append_seconds_bucket{le="+Inf"}': '0+10x40',
    },
    at: 20,
    notYetAt: 8,
    wantLabels: {},
    quiet: {
      'signet_ledger_append_seconds_bucket{le="0.1"}': '0+10x40',
      'signet_ledger_append_seconds_bucket{le="1"}': '0+10x40',
      'signet_ledger_append_seconds_bucket{le="+Inf"}': '0+10x40',
    },
  },
  {
    alert: 'SignetOperatorDown',
    firing: { 'up{job="signet-operator",pod="a"}': '1 0x20' },
    at: 8,
    notYetAt: 5,
    wantLabels: {},
    quiet: { 'up{job="signet-operator",pod="a"}': '0x20', 'up{job="signet-operator",pod="b"}': '1x20' },
  },
  {
    alert: 'SignetOperatorWithoutLeader',
    firing: { 'signet_operator_leader{pod="a"}': '1 0x20', 'signet_operator_leader{pod="b"}': '0x21' },
    at: 8,
    notYetAt: 5,
    wantLabels: {},
    // Leadership moves within a minute or two.
    quiet: { 'signet_operator_leader{pod="a"}': '1 1 0x20', 'signet_operator_leader{pod="b"}': '0 0 0 1x20' },
  },
  {
    alert: 'SignetReconcileFailing',
    firing: { 'signet_operator_reconcile_runs_total{queue="rules",result="error"}': '0+2x40' },
    at: 20,
    notYetAt: 9,
    wantLabels: { queue: 'rules' },
    quiet: {
      'signet_operator_reconcile_runs_total{queue="rules",result="error"}': '0 1 2 3 3x40',
      'signet_operator_reconcile_runs_total{queue="rules",result="success"}': '0+9x40',
    },
  },
  {
    alert: 'SignetRulesNotInForce',
    firing: {
      'signet_operator_rules{state="invalid",pod="a"}': '2x30',
      'signet_operator_rules{state="invalid",pod="b"}': '0x30',
    },
    at: 16,
    notYetAt: 14,
    wantLabels: { state: 'invalid' },
    quiet: { 'signet_operator_rules{state="in_force"}': '9x30', 'signet_operator_rules{state="faulty"}': '1x5 0x25' },
  },
  {
    alert: 'SignetCertificateExpiring',
    firing: {
      [`signet_operator_certificate_expiry_timestamp_seconds{namespace="signet-system",pod="a"}`]: '500000x30',
    },
    at: 16,
    notYetAt: 14,
    wantLabels: { namespace: 'signet-system', pod: 'a' },
    quiet: {
      [`signet_operator_certificate_expiry_timestamp_seconds{namespace="signet-system",pod="a"}`]: '2592000x30',
    },
  },
  {
    alert: 'SignetRevisionsUnaudited',
    firing: { 'signet_bundle_unaudited{pod="a"}': '0 1x30', 'signet_bundle_unaudited{pod="b"}': '0x31' },
    at: 17,
    notYetAt: 14,
    wantLabels: {},
    quiet: { 'signet_bundle_unaudited{pod="a"}': '0 1x5 0x30' },
  },
  {
    alert: 'SignetBundleOutOfTouch',
    firing: { [`signet_bundle_contact_timestamp_seconds{${per(POD)}}`]: '0x40' },
    at: 17,
    notYetAt: 14,
    wantLabels: POD,
    quiet: { [`signet_bundle_contact_timestamp_seconds{${per(POD)}}`]: '0+60x40' },
  },
  {
    alert: 'SignetBundleExpiring',
    firing: { [`signet_bundle_expiry_timestamp_seconds{${per(POD)}}`]: '40000x20' },
    at: 6,
    notYetAt: 4,
    wantLabels: POD,
    quiet: { [`signet_bundle_expiry_timestamp_seconds{${per(POD)}}`]: '90000x20' },
  },
  {
    alert: 'SignetDomainEventsBehind',
    firing: {
      'signet_governance_domain_events_lag_seconds{pod="a"}': '0+60x40',
      'signet_governance_domain_events_lag_seconds{pod="b"}': '0+60x40',
    },
    at: 20,
    notYetAt: 14,
    wantLabels: {},
    quiet: { 'signet_governance_domain_events_lag_seconds{pod="a"}': '0+60x10 0x40' },
  },
  {
    alert: 'SignetDomainEventsLost',
    firing: { 'signet_governance_domain_events_total{outcome="lost",pod="a"}': '0 0 3x40' },
    at: 4,
    wantLabels: {},
    quiet: {
      'signet_governance_domain_events_total{outcome="sent",pod="a"}': '0+9x40',
      'signet_governance_domain_events_total{outcome="lost",pod="a"}': '3x40',
    },
  },
  {
    alert: 'SignetIdentityExpiring',
    firing: { [`signet_identity_expiry_timestamp_seconds{${per(POD)}}`]: '20000x20' },
    at: 6,
    notYetAt: 4,
    wantLabels: POD,
    quiet: { [`signet_identity_expiry_timestamp_seconds{${per(POD)}}`]: '43200x20' },
  },
]

let folder: string
let rulesFile: string
/** The same without annotations: what is compared are the alerts and their labels. */
let bareFile: string
let rules: readonly Rule[]

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'signet-alerts-'))
  const set = ['monitoring.rules.enabled=true', `monitoring.rules.runbookBaseUrl=${RUNBOOKS}`].flatMap((one) => [
    '--set',
    one,
  ])
  const rendered = await helm([
    'template',
    'signet',
    path.join(ROOT, 'charts/signet'),
    '--namespace',
    'signet-system',
    ...set,
  ])
  expect(rendered.stderr).toBe('')
  const documents = parseAllDocuments(rendered.stdout).map((one) => one.toJS() as Record<string, unknown> | null)
  const object = documents.find((one) => one?.['kind'] === 'PrometheusRule') as
    | { spec: { groups: { rules: Rule[] }[] } }
    | undefined
  if (object === undefined) throw new Error('the chart renders no PrometheusRule')
  rules = object.spec.groups.flatMap((group) => group.rules)
  rulesFile = path.join(folder, 'rules.yaml')
  writeFileSync(rulesFile, stringify(object.spec))
  bareFile = path.join(folder, 'bare.yaml')
  const bare = object.spec.groups.map((group) => ({
    ...group,
    rules: group.rules.map((rule) => ({ ...rule, annotations: {} })),
  }))
  writeFileSync(bareFile, stringify({ groups: bare }))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Runs promtool. @throws one line that says what to install */
function promtool(args: readonly string[]): { ok: boolean; output: string } {
  const { error, status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8', timeout: 60_000 })
  if (error !== undefined)
    throw new Error(`promtool cannot be run (${error.message}); install it: apt-get install prometheus`)
  return { ok: status === 0, output: `${stdout}${stderr}` }
}

/** Whether the alert fires as wanted over the series, at the minute. */
function check(
  alert: string,
  series: Readonly<Record<string, string>>,
  at: number,
  want: Readonly<Record<string, string>> | null,
): string {
  const rule = rules.find((one) => one.alert === alert)
  if (rule === undefined) return `the chart has no alert ${alert}`
  const file = path.join(folder, 'test.yaml')
  const test = {
    rule_files: [bareFile],
    evaluation_interval: '1m',
    tests: [
      {
        interval: '1m',
        input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
        alert_rule_test: [
          { eval_time: `${at}m`, alertname: alert, exp_alerts: want === null ? [] : [{ exp_labels: want }] },
        ],
      },
    ],
  }
  writeFileSync(file, stringify(test))
  const { ok, output } = promtool(['test', 'rules', file])
  return ok ? '' : output
}

describe('alerts', () => {
  it('are rules that Prometheus takes', () => {
    expect(promtool(['check', 'rules', rulesFile])).toMatchObject({ ok: true })
  })

  it.each(CASES.map((one, index) => ({ ...one, name: `${one.alert} (${index + 1})` })))(
    '$name fires, not before its time, and not without reason',
    ({ alert, firing, at, wantLabels, quiet, notYetAt }) => {
      const severity = rules.find((one) => one.alert === alert)?.labels['severity'] ?? ''
      expect(check(alert, firing, at, { severity, ...wantLabels })).toBe('')
      if (notYetAt !== undefined) expect(check(alert, firing, notYetAt, null)).toBe('')
      for (let minute = 0; minute <= at + 10; minute += 2) expect(check(alert, quiet, minute, null)).toBe('')
    },
  )

  it('have a case each, a summary, a severity and a runbook that is there', () => {
    expect([...new Set(CASES.map(({ alert }) => alert))].sort()).toEqual(rules.map(({ alert }) => alert).sort())
    for (const { alert, annotations, labels } of rules) {
      expect(annotations['summary'], alert).toBeTruthy()
      expect(['warning', 'critical'], alert).toContain(labels['severity'])
      const page = annotations['runbook_url'] ?? ''
      expect(page.startsWith(`${RUNBOOKS}/`), alert).toBe(true)
      const file = path.join(ROOT, 'docs/runbooks', page.slice(RUNBOOKS.length + 1))
      expect(existsSync(file), `${alert}: ${file}`).toBe(true)
      expect(readFileSync(file, 'utf8'), alert).toContain(alert)
    }
  })

  it('wait 5 minutes above 0 where the promise says so', () => {
    for (const alert of ['SignetStampsMissing', 'SignetStampsRejected', 'SignetApprovalBlocked']) {
      const rule = rules.find((one) => one.alert === alert)
      expect(rule?.for).toBe('5m')
      expect(rule?.expr).toMatch(/\(increase\(\w+_total\[5m\]\)\) > 0$/)
    }
  })

  it('find a rule that is wrong', () => {
    const before = readFileSync(bareFile, 'utf8')
    try {
      writeFileSync(bareFile, before.replace('stamps_missing_total[5m]', 'stamps_mising_total[5m]'))
      const [{ firing, at, wantLabels }] = CASES as [Case]
      expect(check('SignetStampsMissing', firing, at, { severity: 'critical', ...wantLabels })).not.toBe('')
    } finally {
      writeFileSync(bareFile, before)
    }
  })
})

describe('metrics that alerts and dashboards ask for', () => {
  const page = readFileSync(path.join(ROOT, 'docs/reference/metrics.md'), 'utf8')
  const families = new Map(
    [...page.matchAll(/^\| `([a-z_]+)` \| (\w+) \|/gm)].map(([, name = '', type = '']) => [name, type]),
  )
  /** Sample names by family, as OpenMetrics writes them. */
  const samples = new Set(
    [...families].flatMap(([name, type]) =>
      type === 'counter'
        ? [`${name}_total`]
        : type === 'histogram'
          ? [`${name}_bucket`, `${name}_sum`, `${name}_count`]
          : [name],
    ),
  )
  const asked = (expr: string): string[] =>
    [...expr.matchAll(/\b((?:signet|stamps|approval)_[a-z_]+)\b(?!\s*=)/g)].map(([, name = '']) => name)

  it('are in docs/reference/metrics.md: alerts', () => {
    const names = rules.flatMap(({ expr }) => asked(expr))
    expect(names.length).toBeGreaterThan(8)
    expect(names.filter((name) => !samples.has(name))).toEqual([])
  })

  it.each(DASHBOARDS.map(({ uid }) => uid))(
    'are in docs/reference/metrics.md: dashboard %s, which is valid and told apart by everybody',
    (uid) => {
      const text = readFileSync(path.join(ROOT, `charts/signet/dashboards/${uid.replace(/^signet-/, '')}.json`), 'utf8')
      const model = JSON.parse(text) as { uid: string; panels: { title: string; targets?: { expr: string }[] }[] }
      expect(model.uid).toBe(uid)
      const exprs = model.panels.flatMap(({ targets }) => targets ?? []).map(({ expr }) => expr)
      expect(exprs.flatMap(asked).filter((name) => !samples.has(name))).toEqual([])
      expect(exprs.length).toBeGreaterThan(5)
      const colours = [...text.matchAll(/#[0-9A-Fa-f]{6}/g)].map(([colour]) => colour)
      const palette: readonly string[] = Object.values(PALETTE)
      expect(colours.filter((colour) => !palette.includes(colour))).toEqual([])
      expect(text).not.toContain('palette-classic')
    },
  )
})

describe('the rules file in the tree', () => {
  it('holds nothing of the chart', () => {
    const text = readFileSync(path.join(ROOT, 'charts/signet/alerts/alerts.yaml'), 'utf8')
    expect(() => parse(text) as unknown).not.toThrow()
    expect(text).not.toContain('.Values')
  })
})
