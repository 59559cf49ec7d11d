import type { ComplianceRuleSpec } from './model.ts'
import type { RetentionPolicySpec } from './retention.ts'

/** A rule that uses every member of its spec but `rego`. */
export const WHOLE_RULE: ComplianceRuleSpec = {
  description: 'Contacts are not handed out in bulk\nMore than a page of them is a leak.',
  frameworks: ['GDPR'],
  controls: ['GDPR Art. 32', 'ISO27001:A.8.12'],
  severity: 'high',
  stage: 'egress',
  match: {
    namespaces: ['shop'],
    workloadLabels: { 'app.kubernetes.io/name': 'shop' },
    tenants: ['acme'],
    methods: ['GET', 'POST'],
    pathTemplates: ['/customers/{id}', '/reports/**'],
    statuses: ['200', '4xx'],
    contentTypes: ['application/json', 'text/*'],
    channel: 'external',
  },
  enforcement: {
    mode: 'enforce',
    percentage: 50,
    tenants: [
      { tenant: 'acme', mode: 'shadow' },
      { tenant: 'globex', mode: 'enforce', percentage: 10 },
    ],
  },
  conditions: {
    all: [
      { fact: 'response.facts.email.count', operator: 'lessThanInclusive', value: 100 },
      {
        any: [
          { fact: 'request.caller.roles', operator: 'contains', value: 'auditor' },
          { all: [{ any: [{ fact: 'request.caller.region', operator: 'in', value: ['eu-west-1', 'eu-central-1'] }] }] },
        ],
      },
      { fact: 'response.body.page["of-many"][0]', operator: 'exists', value: true },
    ],
  },
  obligations: {
    classification: 'confidential',
    regulations: ['GDPR'],
    approval: 'pending-approval',
    canonicalization: 'jcs',
  },
  remediation: { hint: 'Answer in pages of 100 at most.', link: 'https://example.com/paging' },
  undecidable: { external: 'closed', internal: 'open' },
}

const SMALL: ComplianceRuleSpec = {
  description: 'x',
  severity: 'low',
  conditions: { fact: 'response.status', operator: 'lessThan', value: 500 },
}

export const SMALL_RULE: Readonly<ComplianceRuleSpec> = SMALL

/** Specs that neither the API server nor `checkRuleObject` takes. `wantServer`, `want`: what they say of it. */
export const BAD_RULES: readonly { name: string; as?: string; spec: unknown; wantServer: RegExp; want: RegExp }[] = [
  {
    name: 'conditions and rego',
    spec: { ...SMALL, rego: 'package x' },
    wantServer: /exactly one of conditions and rego/,
    want: /exactly one of conditions and rego/,
  },
  {
    name: 'neither conditions nor rego',
    spec: { description: 'x', severity: 'low' },
    wantServer: /exactly one of conditions and rego/,
    want: /exactly one of conditions and rego/,
  },
  {
    name: 'a name that starts with a digit',
    as: '1st',
    spec: SMALL,
    wantServer: /metadata\.name must be a DNS label/,
    want: /starts with a letter/,
  },
  {
    name: 'a name with dots',
    as: 'a.b',
    spec: SMALL,
    wantServer: /metadata\.name must be a DNS label/,
    want: /DNS label/,
  },
  {
    name: 'a percentage above 100',
    spec: { ...SMALL, enforcement: { percentage: 101 } },
    wantServer: /spec\.enforcement\.percentage.*less than or equal to 100/,
    want: /spec\.enforcement\.percentage.*100/,
  },
  {
    name: 'a percentage of a rule that is off',
    spec: { ...SMALL, enforcement: { mode: 'off', percentage: 10 } },
    wantServer: /percentage says nothing where mode is off/,
    want: /percentage says nothing/,
  },
  {
    name: 'a tenant twice',
    spec: {
      ...SMALL,
      enforcement: {
        tenants: [
          { tenant: 'a', mode: 'off' },
          { tenant: 'a', mode: 'shadow' },
        ],
      },
    },
    wantServer: /Duplicate value/,
    want: /tenant a is there twice/,
  },
  {
    name: 'an unknown severity',
    spec: { ...SMALL, severity: 'bad' },
    wantServer: /spec\.severity.*supported values/,
    want: /spec\.severity.*low, medium, high, critical/,
  },
  {
    name: 'a class of statuses that is none',
    spec: { ...SMALL, match: { statuses: ['6xx'] } },
    wantServer: /spec\.match\.statuses\[0\]/,
    want: /spec\.match\.statuses\[0\]/,
  },
  {
    name: 'a list to match that is empty',
    spec: { ...SMALL, match: { methods: [] } },
    wantServer: /spec\.match\.methods.*at least 1/,
    want: /spec\.match\.methods.*1/,
  },
  {
    name: 'a response’s match in a scan',
    spec: { ...SMALL, stage: 'scan', match: { statuses: ['200'] } },
    wantServer: /need stage egress/,
    want: /needs stage egress/,
  },
  {
    name: 'obligations of an event',
    spec: { ...SMALL, stage: 'event', obligations: { classification: 'public' } },
    wantServer: /obligations need stage egress/,
    want: /need stage egress/,
  },
  {
    name: 'a condition that is a fact and a group',
    spec: { ...SMALL, conditions: { all: [{ fact: 'a', operator: 'equal', value: 1, any: [] }] } },
    wantServer: /exactly one of all, any and fact|at least 1/,
    want: /exactly one of all, any and fact|spec\.conditions\.all\[0\]\.any/,
  },
  {
    name: 'a condition without value',
    spec: { ...SMALL, conditions: { any: [{ fact: 'response.status', operator: 'equal' }] } },
    wantServer: /value/,
    want: /spec\.conditions\.any\[0\]/,
  },
  {
    name: 'a condition without operator',
    spec: { ...SMALL, conditions: { any: [{ fact: 'response.status', value: 200 }] } },
    wantServer: /fact and operator come together/,
    want: /a fact comes with operator and value/,
  },
  {
    name: 'an unknown operator',
    spec: { ...SMALL, conditions: { fact: 'response.status', operator: 'like', value: 1 } },
    wantServer: /spec\.conditions\.operator.*supported values/,
    want: /spec\.conditions\.operator.*equal/,
  },
  {
    name: 'conditions five deep',
    spec: { ...SMALL, conditions: { all: [{ all: [{ all: [{ all: [{ all: [SMALL.conditions] }] }] }] }] } },
    wantServer: /all\[0\]\.all\[0\]\.all\[0\]\.all\[0\]\.(fact|operator|value)|unknown field/,
    want: /spec\.conditions\.all\[0\]\.all\[0\]\.all\[0\]\.all\[0\]/,
  },
  {
    name: 'a link that is no web address',
    spec: { ...SMALL, remediation: { link: 'javascript:alert(1)' } },
    wantServer: /spec\.remediation\.link/,
    want: /spec\.remediation\.link/,
  },
  {
    name: 'Rego of more than 64 KiB',
    spec: { description: 'x', severity: 'low', rego: `package x\n#${'x'.repeat(65_536)}` },
    wantServer: /spec\.rego.*65536/,
    want: /spec\.rego.*65536/,
  },
  {
    name: 'no description',
    spec: { severity: 'low', rego: 'package x' },
    wantServer: /spec\.description.*Required/,
    want: /spec/,
  },
]

/** Specs that only `checkRuleObject` can refuse: the API server knows neither facts nor which value goes with which operator. */
export const UNFIT_RULES: readonly { name: string; spec: unknown; want: RegExp }[] = (
  [
    ['a fact that is none', { fact: 'response.facts.emial.count', operator: 'equal', value: 1 }, /there is no fact/],
    [
      'a header that rules do not get',
      { fact: 'request.headers.cookie', operator: 'exists', value: true },
      /there is no fact/,
    ],
    ['a fact that is an object', { fact: 'response.facts.email', operator: 'exists', value: true }, /email.*\.count/],
    ['Rego for a fact', { fact: 'x"] == 1 } x { true', operator: 'equal', value: 1 }, /is no path/],
    ['text for a number', { fact: 'response.status', operator: 'equal', value: '200' }, /"200" never equals it/],
    ['a list for equal', { fact: 'response.status', operator: 'equal', value: [200] }, /a list goes with in/],
    ['one value for in', { fact: 'response.status', operator: 'in', value: 200 }, /needs a list/],
    ['an order of texts', { fact: 'tenant', operator: 'lessThan', value: 2 }, /a fact that is a number/],
    ['a pattern for a number', { fact: 'response.status', operator: 'matches', value: '2..' }, /a fact that is text/],
    ['exists with text', { fact: 'tenant', operator: 'exists', value: 'yes' }, /true or false/],
    ['equal on a list', { fact: 'request.caller.roles', operator: 'equal', value: 'a' }, /use contains/],
    ['control characters', { fact: 'tenant', operator: 'equal', value: 'a\u001b[31m' }, /control characters/],
    ['half a character', { fact: 'tenant', operator: 'equal', value: '\ud800' }, /is not Unicode/],
  ] as const
)
  .map(([name, conditions, want]): { name: string; spec: unknown; want: RegExp } => ({
    name,
    spec: { ...SMALL, conditions },
    want,
  }))
  .concat([
    {
      name: '** in the middle of a template',
      spec: { ...SMALL, match: { pathTemplates: ['/a/**/b'] } },
      want: /\*\* is allowed at the end only/,
    },
    {
      name: 'a template with an encoded character',
      spec: { ...SMALL, match: { pathTemplates: ['/a%20b'] } },
      want: /paths are compared decoded/,
    },
  ])

export const WHOLE_RETENTION: RetentionPolicySpec = {
  description: 'Financial records',
  selector: { tenants: ['acme'], dataDomains: ['finance'], regions: ['eu'], frameworks: ['SOX'] },
  hot: '90d',
  archive: '7y',
  purge: { mode: 'whenArchived', keepSummary: true },
  legalHold: { active: true, reason: 'Case 42', reference: 'LEGAL-42' },
  erasure: { allowed: true, within: '30d' },
}

export const BAD_RETENTION: readonly { name: string; spec: unknown; wantServer: RegExp; want: RegExp }[] = [
  {
    name: 'archive shorter than hot',
    spec: { hot: '1y', archive: '365d' },
    wantServer: /cannot be shorter than hot/,
    want: /cannot be shorter than hot/,
  },
  { name: 'a duration in hours', spec: { hot: '24h', archive: '7y' }, wantServer: /spec\.hot/, want: /spec\.hot/ },
  { name: 'no archive', spec: { hot: '24d' }, wantServer: /spec\.archive.*Required/, want: /spec/ },
  {
    name: 'a hold without reason',
    spec: { hot: '1d', archive: '1d', legalHold: { active: true } },
    wantServer: /gives its reason/,
    want: /gives its reason/,
  },
  {
    name: 'erasure within a time though not allowed',
    spec: { hot: '1d', archive: '1d', erasure: { allowed: false, within: '1d' } },
    wantServer: /needs allowed: true/,
    want: /needs allowed: true/,
  },
  {
    name: 'erasure within two years',
    spec: { hot: '1d', archive: '1d', erasure: { allowed: true, within: '2y' } },
    wantServer: /at most 366 days/,
    want: /at most 366 days/,
  },
  {
    name: 'a selector of nothing',
    spec: { hot: '1d', archive: '1d', selector: { tenants: [] } },
    wantServer: /spec\.selector\.tenants/,
    want: /spec\.selector\.tenants/,
  },
]
