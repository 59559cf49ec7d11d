/** Okabe and Ito's palette: told apart with every kind of colour vision. Several series of one panel are shades of one of them. */
export const PALETTE = {
  blue: '#0072B2',
  orange: '#E69F00',
  green: '#009E73',
  vermilion: '#D55E00',
  sky: '#56B4E9',
  purple: '#CC79A7',
} as const
type Colour = keyof typeof PALETTE

type Query = { readonly expr: string; readonly legend: string }
type Panel = {
  readonly title: string
  readonly description: string
  readonly unit: 'short' | 'ops' | 's' | 'bytes' | 'dtdurations' | 'percentunit'
  readonly colour: Colour
  readonly kind?: 'timeseries' | 'stat'
  readonly queries: readonly Query[]
}
type Dashboard = {
  readonly uid: string
  readonly title: string
  readonly rows: readonly (readonly [string, readonly Panel[]])[]
}

const rate = (family: string, by: string): string =>
  `sum by (${by}) (rate(${family}_total{namespace=~"$namespace"}[$__rate_interval]))`
const worst = (metric: string, by: string): string => `topk(10, max by (${by}) (${metric}{namespace=~"$namespace"}))`
const quantile = (q: number, family: string, by = ''): string =>
  `histogram_quantile(${q}, sum by (le${by}) (rate(${family}_bucket{namespace=~"$namespace"}[$__rate_interval])))`
const total = (family: string, by: string): string => `sum by (${by}) (rate(${family}_total[$__rate_interval]))`
const quantiles = (family: string): Query[] =>
  [0.5, 0.99].map((q) => ({
    expr: `histogram_quantile(${q}, sum by (le) (rate(${family}_bucket[$__rate_interval])))`,
    legend: `p${q * 100}`,
  }))
const latency = (family: string): Query[] =>
  [0.5, 0.99].map((q) => ({ expr: quantile(q, family), legend: `p${q * 100}` }))

export const DASHBOARDS: readonly Dashboard[] = [
  {
    uid: 'signet-stamps',
    title: 'Signet: stamps',
    rows: [
      [
        'What leaves',
        [
          {
            title: 'Stamps issued',
            description: 'Answers that left with a stamp, by tenant.',
            unit: 'ops',
            colour: 'blue',
            queries: [{ expr: rate('stamps_issued', 'tenant'), legend: '{{tenant}}' }],
          },
          {
            title: 'Answers by how they ended',
            description: 'answered, refused (422) or failed (5xx).',
            unit: 'ops',
            colour: 'sky',
            queries: [{ expr: rate('signet_requests', 'channel, outcome'), legend: '{{channel}} {{outcome}}' }],
          },
          {
            title: 'Stamps missing',
            description: 'Answers that left unstamped under enforce. Anything above 0 is an alert.',
            unit: 'ops',
            colour: 'vermilion',
            queries: [
              {
                expr: rate('stamps_missing', 'namespace, tenant, reason'),
                legend: '{{namespace}} {{tenant}} {{reason}}',
              },
            ],
          },
        ],
      ],
      [
        'What does not',
        [
          {
            title: 'Refused by rule',
            description: 'Answers that a rule held back.',
            unit: 'ops',
            colour: 'orange',
            queries: [{ expr: rate('stamps_rejected', 'tenant, rule'), legend: '{{tenant}} {{rule}}' }],
          },
          {
            title: 'Waiting for approval',
            description: 'Answers that would leave if they were approved.',
            unit: 'ops',
            colour: 'orange',
            queries: [{ expr: rate('approval_blocked', 'tenant, rule'), legend: '{{tenant}} {{rule}}' }],
          },
          {
            title: 'What shadow would refuse',
            description: 'Look here before turning a rule to enforce.',
            unit: 'ops',
            colour: 'purple',
            queries: [{ expr: rate('signet_shadow_violations', 'tenant, rule'), legend: '{{tenant}} {{rule}}' }],
          },
          {
            title: 'Undecidable rules',
            description: 'What a rule needs is missing, or it takes too long.',
            unit: 'ops',
            colour: 'vermilion',
            queries: [{ expr: rate('signet_rules_undecidable', 'rule'), legend: '{{rule}}' }],
          },
        ],
      ],
      [
        'How fast',
        [
          {
            title: 'Decision time',
            description: 'Inspecting, judging, stamping and auditing one answer.',
            unit: 's',
            colour: 'blue',
            queries: latency('signet_decision_seconds'),
          },
          {
            title: 'Answers under way',
            description: 'By pod, the ten busiest.',
            unit: 'short',
            colour: 'sky',
            queries: [{ expr: worst('signet_in_flight', 'pod'), legend: '{{pod}}' }],
          },
          {
            title: 'Upstream failures',
            description: 'By error code.',
            unit: 'ops',
            colour: 'vermilion',
            queries: [{ expr: rate('signet_upstream_errors', 'code'), legend: '{{code}}' }],
          },
        ],
      ],
    ],
  },
  {
    uid: 'signet-audit',
    title: 'Signet: audit',
    rows: [
      [
        'From proxies to the ledger',
        [
          {
            title: 'Oldest event not acknowledged',
            description: 'By pod, the ten worst.',
            unit: 's',
            colour: 'vermilion',
            queries: [{ expr: worst('signet_audit_oldest_seconds', 'pod'), legend: '{{pod}}' }],
          },
          {
            title: 'Events waiting',
            description: 'By pod, the ten with most.',
            unit: 'short',
            colour: 'orange',
            queries: [{ expr: worst('signet_audit_pending_events', 'pod'), legend: '{{pod}}' }],
          },
          {
            title: 'Spool on disk',
            description: 'By pod, the ten largest.',
            unit: 'bytes',
            colour: 'sky',
            queries: [{ expr: worst('signet_audit_spool_bytes', 'pod'), legend: '{{pod}}' }],
          },
          {
            title: 'From sending to acknowledgement',
            description: 'One batch.',
            unit: 's',
            colour: 'blue',
            queries: latency('signet_audit_batch_seconds'),
          },
          {
            title: 'Failed calls to the ledger',
            description: 'By error code.',
            unit: 'ops',
            colour: 'vermilion',
            queries: [{ expr: rate('signet_audit_send_failures', 'code'), legend: '{{code}}' }],
          },
        ],
      ],
      [
        'The ledger',
        [
          {
            title: 'Records appended',
            description: 'To the chains of all tenants.',
            unit: 'ops',
            colour: 'green',
            queries: [{ expr: 'sum (rate(signet_ledger_records_total[$__rate_interval]))', legend: 'records' }],
          },
          {
            title: 'Items refused',
            description: 'By code.',
            unit: 'ops',
            colour: 'vermilion',
            queries: [
              { expr: 'sum by (code) (rate(signet_ledger_items_refused_total[$__rate_interval]))', legend: '{{code}}' },
            ],
          },
          {
            title: 'Appending transaction',
            description: 'Time in the database.',
            unit: 's',
            colour: 'blue',
            queries: quantiles('signet_ledger_append_seconds'),
          },
        ],
      ],
    ],
  },
  {
    uid: 'signet-operator',
    title: 'Signet: operator',
    rows: [
      [
        'Rules',
        [
          {
            title: 'Rules by how far they have come',
            description: 'As the leader sees them.',
            unit: 'short',
            colour: 'blue',
            queries: [{ expr: 'max by (state) (signet_operator_rules)', legend: '{{state}}' }],
          },
          {
            title: 'Compiling one scope',
            description: 'All root rules, or those of a namespace.',
            unit: 's',
            colour: 'sky',
            queries: quantiles('signet_operator_compile_seconds'),
          },
          {
            title: 'Publications',
            description: 'What became of attempts to publish.',
            unit: 'ops',
            colour: 'green',
            queries: [{ expr: total('signet_bundle_publications', 'outcome'), legend: '{{outcome}}' }],
          },
        ],
      ],
      [
        'Distribution',
        [
          {
            title: 'Pulls of bundles',
            description: 'How they were answered.',
            unit: 'ops',
            colour: 'blue',
            queries: [{ expr: total('signet_bundle_pulls', 'result'), legend: '{{result}}' }],
          },
          {
            title: 'Refused pulls and reports',
            description: 'By error code.',
            unit: 'ops',
            colour: 'vermilion',
            queries: [{ expr: total('signet_bundle_requests_refused', 'action, code'), legend: '{{action}} {{code}}' }],
          },
          {
            title: 'Not in touch with the bundle server',
            description: 'Seconds since a pod last knew that it has the latest rules; the ten worst.',
            unit: 's',
            colour: 'orange',
            queries: [
              {
                expr: 'topk(10, time() - max by (namespace, pod) (signet_bundle_contact_timestamp_seconds{namespace=~"$namespace"}))',
                legend: '{{namespace}} {{pod}}',
              },
            ],
          },
        ],
      ],
      [
        'The process',
        [
          {
            title: 'Reconciles that failed',
            description: 'By queue.',
            unit: 'ops',
            colour: 'vermilion',
            queries: [
              {
                expr: 'sum by (queue) (rate(signet_operator_reconcile_runs_total{result="error"}[$__rate_interval]))',
                legend: '{{queue}}',
              },
            ],
          },
          {
            title: 'Keys in queues',
            description: 'Waiting, delayed or being reconciled.',
            unit: 'short',
            colour: 'orange',
            queries: [{ expr: 'sum by (queue) (signet_operator_queue_depth)', legend: '{{queue}}' }],
          },
          {
            title: 'Leaders',
            description: 'One, but for moments.',
            unit: 'short',
            colour: 'green',
            queries: [{ expr: 'sum (signet_operator_leader)', legend: 'leaders' }],
          },
        ],
      ],
    ],
  },
]

const WIDTH = 24
const HEIGHT = 8

/** A dashboard as Grafana's JSON model (schema 39): a data source and namespaces to choose, one row a heading. */
export function dashboardJson(dashboard: Dashboard): string {
  const panels: object[] = []
  let y = 0
  for (const [title, row] of dashboard.rows) {
    panels.push({
      id: panels.length + 1,
      type: 'row',
      title,
      collapsed: false,
      panels: [],
      gridPos: { h: 1, w: WIDTH, x: 0, y },
    })
    y += 1
    const perLine = row.length === 4 ? 2 : 3
    row.forEach((panel, index) => {
      const w = WIDTH / perLine
      const gridPos = { h: HEIGHT, w, x: (index % perLine) * w, y: y + Math.floor(index / perLine) * HEIGHT }
      panels.push(panelJson(panel, panels.length + 1, gridPos))
    })
    y += Math.ceil(row.length / perLine) * HEIGHT
  }
  const model = {
    uid: dashboard.uid,
    title: dashboard.title,
    tags: ['signet'],
    schemaVersion: 39,
    editable: true,
    time: { from: 'now-6h', to: 'now' },
    refresh: '1m',
    templating: { list: variables() },
    panels,
  }
  return `${JSON.stringify(model, null, 1)}\n`
}

function variables(): object[] {
  return [
    { name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus', current: {} },
    {
      name: 'namespace',
      label: 'Namespace',
      type: 'query',
      datasource: { type: 'prometheus', uid: '${datasource}' },
      query: 'label_values(stamps_issued_total, namespace)',
      refresh: 2,
      includeAll: true,
      allValue: '.*',
      multi: true,
      current: { text: 'All', value: '$__all' },
    },
  ]
}

function panelJson(
  { title, description, unit, colour, kind = 'timeseries', queries }: Panel,
  id: number,
  gridPos: object,
): object {
  return {
    id,
    type: kind,
    title,
    description,
    gridPos,
    datasource: { type: 'prometheus', uid: '${datasource}' },
    fieldConfig: {
      defaults: {
        unit,
        min: 0,
        color: { mode: queries.length === 1 && kind === 'stat' ? 'fixed' : 'shades', fixedColor: PALETTE[colour] },
        custom: { lineWidth: 2, fillOpacity: 8, showPoints: 'never' },
      },
      overrides: [],
    },
    options: {
      legend: { displayMode: 'table', placement: 'bottom', calcs: ['lastNotNull', 'max'] },
      tooltip: { mode: 'multi' },
    },
    targets: queries.map(({ expr, legend }, index) => ({
      refId: String.fromCharCode(65 + index),
      datasource: { type: 'prometheus', uid: '${datasource}' },
      expr,
      legendFormat: legend,
    })),
  }
}
