import Type from 'typebox'
import { SEVERITIES } from '../policy/decision.ts'
import { RULE_MODES } from '../policy/manifest.ts'
import { APPROVAL_STATUSES, CANONICALIZATIONS, CHANNELS, CLASSIFICATIONS } from '../stamp/schema.ts'
import { Conditions } from './condition.ts'
import { StatusCondition } from './status.ts'

export const GROUP = 'signet.dev'
export const VERSION = 'v1alpha1'

export const STAGES = ['egress', 'event', 'scan'] as const
export type Stage = (typeof STAGES)[number]

/** A DNS label (RFC 1123) that starts with a letter: also a rule's id, and with `_` for `-` a part of its package. */
export const RULE_NAME_PATTERN = '^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$'
export const MAX_REGO_LENGTH = 65_536
export const MAX_TEMPLATES = 64

const closed = { additionalProperties: false } as const
const Framework = Type.String({ pattern: '^[A-Z0-9][A-Z0-9_.-]{0,63}$', maxLength: 64 })
const Tenant = Type.String({ minLength: 1, maxLength: 512 })
const Percentage = Type.Integer({
  minimum: 0,
  maximum: 100,
  description:
    'Share of requests (0 to 100) that the mode applies to; the rest get the next milder one: shadow for enforce, off for shadow. Chosen by Signet’s own request id.',
})
const Mode = Type.Enum(RULE_MODES, {
  description:
    'off: not judged. shadow: judged, counted and audited; changes nothing. enforce: a violation refuses the response.',
})

const set = <T extends Type.TSchema>(items: T, maxItems: number, description: string, minItems = 0) =>
  Type.Optional(
    Type.Array(items, { minItems, maxItems, uniqueItems: true, 'x-kubernetes-list-type': 'set', description }),
  )
/** A list that a value must be in: an empty one would fit nothing, and reads as if it fit all. */
const anyOf = <T extends Type.TSchema>(items: T, maxItems: number, description: string) =>
  set(items, maxItems, description, 1)

/** Every member that is given must fit; within one, any value may. */
export const RuleMatch = Type.Object(
  {
    namespaces: anyOf(
      Type.String({ pattern: '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$', maxLength: 63 }),
      256,
      'Namespaces of the workload. For rules of the operator’s own namespace, which else apply to all.',
    ),
    workloadLabels: Type.Optional(
      Type.Record(Type.String({ maxLength: 317 }), Type.String({ maxLength: 63 }), {
        maxProperties: 16,
        description:
          'Labels that the pod must have, with these values. The application’s team sets labels: a rule that it must not escape should not depend on them.',
      }),
    ),
    tenants: anyOf(Tenant, 256, 'Tenants.'),
    methods: anyOf(
      Type.String({ pattern: "^[A-Z][A-Z0-9!#$%&'*+.^_`|~-]{0,31}$", maxLength: 32 }),
      16,
      'HTTP methods in upper case. GET includes HEAD.',
    ),
    pathTemplates: anyOf(
      Type.String({ pattern: '^/', maxLength: 512 }),
      MAX_TEMPLATES,
      'Path templates: {name} matches one segment, a last ** any rest. Case does not count. All readings of the path are tried, so that no spelling slips past.',
    ),
    statuses: anyOf(
      Type.String({ pattern: '^[1-5]([0-9]{2}|xx)$', maxLength: 3 }),
      64,
      'Status codes (404) or classes of them (5xx).',
    ),
    contentTypes: anyOf(
      Type.String({
        pattern: '^[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/([a-z0-9][a-z0-9!#$&^_.+-]{0,126}|\\*)$',
        maxLength: 255,
      }),
      64,
      'Media types in lower case, without parameters: application/json, or text/* for all of a kind.',
    ),
    channel: Type.Optional(Type.Enum(CHANNELS, { description: 'The channel that the response leaves by.' })),
  },
  {
    ...closed,
    description: 'What the rule applies to. Every member that is given must fit; within one, any of its values.',
  },
)
export type RuleMatch = Type.Static<typeof RuleMatch>

const TenantEnforcement = Type.Object(
  { tenant: Tenant, mode: Mode, percentage: Type.Optional(Percentage) },
  {
    ...closed,
    'x-kubernetes-validations': [
      { rule: "!has(self.percentage) || self.mode != 'off'", message: 'percentage says nothing where mode is off' },
    ],
  },
)

export const RuleEnforcement = Type.Object(
  {
    mode: Type.Optional(Type.Enum(RULE_MODES, { ...Mode, default: 'enforce' })),
    percentage: Type.Optional(Percentage),
    tenants: Type.Optional(
      Type.Array(TenantEnforcement, {
        maxItems: 256,
        'x-kubernetes-list-type': 'map',
        'x-kubernetes-list-map-keys': ['tenant'],
        description: 'Other modes for single tenants. A tenant’s entry replaces mode and percentage as a whole.',
      }),
    ),
  },
  {
    ...closed,
    description: 'How far the rule is in force.',
    'x-kubernetes-validations': [
      {
        rule: "!has(self.percentage) || !has(self.mode) || self.mode != 'off'",
        message: 'percentage says nothing where mode is off',
      },
    ],
  },
)
export type RuleEnforcement = Type.Static<typeof RuleEnforcement>

export const RuleObligations = Type.Object(
  {
    classification: Type.Optional(
      Type.Enum(CLASSIFICATIONS, { description: 'At least this classification. The highest of all rules is stamped.' }),
    ),
    regulations: set(Framework, 64, 'Regulations that the stamp names, with those of all other rules.'),
    approval: Type.Optional(
      Type.Enum(APPROVAL_STATUSES, {
        description: 'At best this approval status. The strictest of all rules is stamped.',
      }),
    ),
    canonicalization: Type.Optional(
      Type.Enum(CANONICALIZATIONS, {
        description:
          'jcs: the stamp’s payload digest survives re-serialisation of JSON. bytes: it is over the exact bytes.',
      }),
    ),
  },
  {
    ...closed,
    minProperties: 1,
    description: 'What the stamp of a response that the rule applies to must say, violated or not.',
  },
)
export type RuleObligations = Type.Static<typeof RuleObligations>

const Undecidable = (channel: string, fallback: string) =>
  Type.Optional(
    Type.Enum(['closed', 'open'], {
      default: fallback,
      description: `On the ${channel} channel; closed refuses the response, open lets it pass.`,
    }),
  )

const HTTP_MATCH = ['methods', 'pathTemplates', 'statuses', 'contentTypes', 'channel'] as const

/** `spec` of a ComplianceRule. One definition for types, validation and the CRD. */
export const ComplianceRuleSpec = Type.Object(
  {
    description: Type.String({
      minLength: 1,
      maxLength: 2000,
      description: 'What must hold, for people. Its first line is the rule’s title; a violation of conditions says it.',
    }),
    frameworks: set(Framework, 64, 'Frameworks and regulations that call for the rule: GDPR, SOX, PCI-DSS.'),
    controls: set(
      Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9 ._:/()-]{0,127}$', maxLength: 128 }),
      64,
      'Controls that the rule implements, as their catalog names them: “PCI-DSS 3.4”, “GDPR Art. 32”.',
    ),
    severity: Type.Enum(SEVERITIES, { description: 'Of a violation.' }),
    stage: Type.Optional(
      Type.Enum(STAGES, {
        default: 'egress',
        description: 'egress: a response about to leave. event: an event just recorded. scan: facts about a system.',
      }),
    ),
    match: Type.Optional(RuleMatch),
    enforcement: Type.Optional(RuleEnforcement),
    conditions: Type.Optional(Conditions),
    rego: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: MAX_REGO_LENGTH,
        description: 'Rego v1: one package with a rule “decision”. Exactly one of conditions and rego is given.',
      }),
    ),
    obligations: Type.Optional(RuleObligations),
    remediation: Type.Optional(
      Type.Object(
        {
          hint: Type.Optional(
            Type.String({ minLength: 1, maxLength: 2000, description: 'How to mend it, in a sentence or two.' }),
          ),
          link: Type.Optional(
            Type.String({
              pattern: '^https?://[!-~]+$',
              maxLength: 2000,
              description: 'Where to read more: an http or https URL.',
            }),
          ),
        },
        { ...closed, description: 'How whoever is refused can mend it.' },
      ),
    ),
    undecidable: Type.Optional(
      Type.Object(
        { external: Undecidable('external', 'closed'), internal: Undecidable('internal', 'open') },
        {
          ...closed,
          description: 'What happens when the rule cannot be judged, because a body or fact could not be read.',
        },
      ),
    ),
  },
  {
    ...closed,
    'x-kubernetes-validations': [
      { rule: 'has(self.conditions) != has(self.rego)', message: 'give exactly one of conditions and rego' },
      {
        rule: `!has(self.stage) || self.stage == 'egress' || !has(self.match) || (${HTTP_MATCH.map((name) => `!has(self.match.${name})`).join(' && ')})`,
        message: `${HTTP_MATCH.join(', ')} of match need stage egress: only a response has them`,
      },
      {
        rule: "!has(self.stage) || self.stage == 'egress' || !has(self.obligations)",
        message: 'obligations need stage egress: only a response is stamped',
      },
    ],
  },
)
export type ComplianceRuleSpec = Type.Static<typeof ComplianceRuleSpec>

/** A ComplianceRule as far as compiling it goes. `name`: `metadata.name`. */
export type RuleObject = { name: string; spec: ComplianceRuleSpec }

const RuleError = Type.Object({
  line: Type.Integer({ minimum: 1, description: 'Line in spec.rego, from 1; 1 where the fault is not in Rego.' }),
  column: Type.Integer({ minimum: 1 }),
  message: Type.String({ maxLength: 2000 }),
})

export const ComplianceRuleStatus = Type.Object({
  observedGeneration: Type.Optional(
    Type.Integer({ minimum: 0, description: 'Generation of the object that this status speaks of.' }),
  ),
  conditions: Type.Optional(
    Type.Array(StatusCondition, {
      maxItems: 16,
      'x-kubernetes-list-type': 'map',
      'x-kubernetes-list-map-keys': ['type'],
      description:
        'Accepted: the object is valid. Compiled: it is in a module. Distributed: the proxies that should have it do.',
    }),
  ),
  errors: Type.Optional(
    Type.Array(RuleError, {
      maxItems: 20,
      'x-kubernetes-list-type': 'atomic',
      description: 'What keeps the rule from being compiled.',
    }),
  ),
  revision: Type.Optional(
    Type.String({ maxLength: 128, description: 'The bundle’s revision that has this generation of the rule.' }),
  ),
  distribution: Type.Optional(
    Type.Object(
      {
        expected: Type.Integer({ minimum: 0, description: 'Proxies that should have the revision.' }),
        current: Type.Integer({ minimum: 0, description: 'Proxies that do.' }),
      },
      { description: 'How far the revision has come.' },
    ),
  ),
})
export type ComplianceRuleStatus = Type.Static<typeof ComplianceRuleStatus>

export { RetentionPolicySpec, RetentionPolicyStatus } from './retention.ts'
