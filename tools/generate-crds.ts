import { mkdir, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'
import {
  ComplianceRuleSpec,
  ComplianceRuleStatus,
  GROUP,
  RetentionPolicySpec,
  RetentionPolicyStatus,
  RULE_NAME_PATTERN,
  VERSION,
} from '#core/rule/model.ts'
import { PolicyDataSpec } from '#core/rule/policy-data.ts'

export const CRD_DIRECTORY = fileURLToPath(new URL('../crds/', import.meta.url))

type Schema = Readonly<Record<string, unknown>>

/** Keywords that a structural schema takes as they are (https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema). */
const KEPT = [
  'description',
  'type',
  'format',
  'pattern',
  'minLength',
  'maxLength',
  'minimum',
  'maximum',
  'minItems',
  'maxItems',
  'minProperties',
  'maxProperties',
  'default',
  'required',
  'x-kubernetes-list-type',
  'x-kubernetes-list-map-keys',
  'x-kubernetes-validations',
]
/** And those that the API server does by other means: it prunes unknown members, and list-type set has unique items. */
const DROPPED = ['additionalProperties', 'uniqueItems']

/** A TypeBox schema as a structural one. Throws Error on a keyword that it has no answer to. */
export function structural(schema: Schema, path = ''): Record<string, unknown> {
  const out: Record<string, unknown> = {}
  for (const keyword of KEPT) if (schema[keyword] !== undefined) out[keyword] = schema[keyword]
  const known = new Set([...KEPT, ...DROPPED, 'properties', 'items', 'enum', 'anyOf', 'patternProperties'])
  for (const keyword of Object.keys(schema)) {
    if (!known.has(keyword)) throw new Error(`${path}: no structural schema has ${keyword}`)
  }
  if (Array.isArray(schema['enum'])) {
    out['type'] = 'string'
    out['enum'] = schema['enum']
  }
  if (typeof schema['properties'] === 'object') {
    const properties = Object.entries(schema['properties'] as Record<string, Schema>)
    out['properties'] = Object.fromEntries(
      properties.map(([name, member]) => [name, structural(member, `${path}.${name}`)]),
    )
  }
  if (schema['items'] !== undefined) out['items'] = structural(schema['items'] as Schema, `${path}[]`)
  if (schema['patternProperties'] !== undefined) {
    const [value] = Object.values(schema['patternProperties'] as Record<string, Schema>)
    out['additionalProperties'] = structural(value!, `${path}{}`)
  }
  if (Array.isArray(schema['anyOf'])) {
    const alternatives = schema['anyOf'] as Schema[]
    if (alternatives.every((each) => Object.keys(each).join() === 'required')) out['anyOf'] = alternatives
    // Alternatives of different types: a structural schema has none. Checked by the webhook and the compiler.
    else out['x-kubernetes-preserve-unknown-fields'] = true
  }
  return out
}

interface Kind {
  kind: string
  plural: string
  singular: string
  shortName: string
  description: string
  spec: Schema
  /** None: nobody writes one. */
  status?: Schema
  columns: readonly { name: string; type: string; jsonPath: string; priority?: number; description?: string }[]
}

const condition = (type: string): string => `.status.conditions[?(@.type=="${type}")].status`
const AGE = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' }

const KINDS: readonly Kind[] = [
  {
    kind: 'ComplianceRule',
    plural: 'compliancerules',
    singular: 'compliancerule',
    shortName: 'crule',
    description:
      'A rule that responses have to meet. In the operator’s own namespace it applies everywhere, elsewhere to its namespace.',
    spec: ComplianceRuleSpec as unknown as Schema,
    status: ComplianceRuleStatus as unknown as Schema,
    columns: [
      { name: 'Severity', type: 'string', jsonPath: '.spec.severity' },
      { name: 'Stage', type: 'string', jsonPath: '.spec.stage', priority: 1 },
      { name: 'Mode', type: 'string', jsonPath: '.spec.enforcement.mode' },
      { name: 'Accepted', type: 'string', jsonPath: condition('Accepted') },
      { name: 'Compiled', type: 'string', jsonPath: condition('Compiled') },
      { name: 'Distributed', type: 'string', jsonPath: condition('Distributed') },
      {
        name: 'Proxies',
        type: 'integer',
        jsonPath: '.status.distribution.current',
        description: 'Proxies that have it.',
      },
      { name: 'Revision', type: 'string', jsonPath: '.status.revision', priority: 1 },
      { name: 'Description', type: 'string', jsonPath: '.spec.description', priority: 1 },
      AGE,
    ],
  },
  {
    kind: 'RetentionPolicy',
    plural: 'retentionpolicies',
    singular: 'retentionpolicy',
    shortName: 'rpol',
    description: 'How long audit records are kept, where, and what stops or hastens their end.',
    spec: RetentionPolicySpec as unknown as Schema,
    status: RetentionPolicyStatus as unknown as Schema,
    columns: [
      { name: 'Hot', type: 'string', jsonPath: '.spec.hot' },
      { name: 'Archive', type: 'string', jsonPath: '.spec.archive' },
      { name: 'Hold', type: 'boolean', jsonPath: '.spec.legalHold.active' },
      { name: 'Accepted', type: 'string', jsonPath: condition('Accepted') },
      AGE,
    ],
  },
  {
    kind: 'PolicyData',
    plural: 'policydata',
    singular: 'policydata',
    shortName: 'pdata',
    description:
      'What the rules of a tenant are applied to, beside the rules. Governance writes it, in the operator’s own namespace; elsewhere it counts for nothing.',
    spec: PolicyDataSpec as unknown as Schema,
    columns: [{ name: 'Tenant', type: 'string', jsonPath: '.spec.tenant' }, AGE],
  },
]

/** The CRD files, by name. */
export function crdFiles(): Map<string, string> {
  return new Map(KINDS.map((kind) => [`${kind.plural}.${GROUP}.yaml`, crdText(kind)]))
}

function crdText({ kind, plural, singular, shortName, description, spec, status, columns }: Kind): string {
  const crd = {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${GROUP}` },
    spec: {
      group: GROUP,
      scope: 'Namespaced',
      names: { kind, listKind: `${kind}List`, plural, singular, shortNames: [shortName], categories: ['signet'] },
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          ...(status === undefined ? {} : { subresources: { status: {} } }),
          additionalPrinterColumns: columns,
          schema: {
            openAPIV3Schema: {
              type: 'object',
              description,
              required: ['spec'],
              properties: {
                apiVersion: { type: 'string' },
                kind: { type: 'string' },
                metadata: { type: 'object' },
                spec: structural(spec, 'spec'),
                ...(status === undefined ? {} : { status: structural(status, 'status') }),
              },
              'x-kubernetes-validations': [
                {
                  rule: `self.metadata.name.matches('${RULE_NAME_PATTERN}')`,
                  message:
                    'metadata.name must be a DNS label of at most 63 lower-case letters, digits and -, that starts with a letter',
                },
              ],
            },
          },
        },
      ],
    },
  }
  const head = `# Written by tools/generate-crds.ts from core/rule/: change those, then run it.\n`
  // Kubernetes reads YAML 1.1, where a bare off is false.
  return head + stringify(crd, { lineWidth: 140, aliasDuplicateObjects: false, version: '1.1' })
}

// `node tools/generate-crds.ts` writes them.
if (import.meta.main) {
  await mkdir(CRD_DIRECTORY, { recursive: true })
  for (const [name, text] of crdFiles()) await writeFile(`${CRD_DIRECTORY}${name}`, text)
}
