import { FACT_NAMES, SELECTED_REQUEST_HEADERS, SELECTED_RESPONSE_HEADERS } from '../policy/decision.ts'

export type FactType = 'text' | 'number' | 'boolean' | 'list' | 'any'

/** A fact that conditions of stage `egress` may name. `{x}` in its path stands for one member of any name, or those of `names`; `**` for any rest. */
export interface FactKind {
  path: string
  type: FactType
  description: string
  names?: readonly string[]
}

/** The members of `DecisionInput` (core/policy/decision.ts) that hold text, a number, true or false, or a list of text. */
export const FACTS: readonly FactKind[] = [
  { path: 'tenant', type: 'text', description: 'The tenant of the workload.' },
  { path: 'channel', type: 'text', description: 'external or internal.' },
  { path: 'request.method', type: 'text', description: 'Upper case.' },
  { path: 'request.path', type: 'text', description: 'Path of the request target, without query, as received.' },
  { path: 'request.path_template', type: 'text', description: 'The route of the policy data that matched.' },
  {
    path: 'request.matched_templates',
    type: 'list',
    description: 'The path templates of rules that the path matches.',
  },
  { path: 'request.headers.{name}', type: 'text', description: 'A request header.', names: SELECTED_REQUEST_HEADERS },
  { path: 'request.caller.subject', type: 'text', description: 'Who asks; anonymous where nobody knows.' },
  { path: 'request.caller.roles', type: 'list', description: 'Roles of the caller.' },
  { path: 'request.caller.region', type: 'text', description: 'Region of the caller, where it is known.' },
  { path: 'response.status', type: 'number', description: 'Status code.' },
  {
    path: 'response.media_type',
    type: 'text',
    description: 'Lower-case type/subtype; empty where the service sent none.',
  },
  {
    path: 'response.size',
    type: 'number',
    description: 'Bytes of the content; absent while a stream’s size is not known.',
  },
  {
    path: 'response.headers.{name}',
    type: 'text',
    description: 'A response header.',
    names: SELECTED_RESPONSE_HEADERS,
  },
  {
    path: 'response.upstream_stamp',
    type: 'text',
    description: 'What the service sent in the place of a stamp: none, verified or forged.',
  },
  {
    path: 'response.facts.{name}.count',
    type: 'number',
    description: 'How many a detector found in content and headers; 0 where it does not read the media type.',
    names: FACT_NAMES,
  },
  {
    path: 'response.facts.{name}.applicable',
    type: 'boolean',
    description: 'Whether the detector reads this media type.',
    names: FACT_NAMES,
  },
  { path: 'response.body.**', type: 'any', description: 'A member of the JSON body. Costs a parse of each body.' },
  { path: 'route.classification', type: 'text', description: 'What the policy data declares for the route.' },
  { path: 'route.regulations', type: 'list', description: 'The same.' },
  { path: 'route.regions', type: 'list', description: 'The same.' },
  { path: 'lineage.source_assets', type: 'list', description: 'What the response is derived from.' },
  { path: 'lineage.transformations', type: 'list', description: 'How.' },
  { path: 'lineage.model_version', type: 'text', description: 'The model that made it.' },
  { path: 'lineage.input_hash', type: 'text', description: 'sha256: and the digest of what went in.' },
  { path: 'lineage.declared_classification', type: 'text', description: 'What the application declares.' },
  { path: 'lineage.artifact_version', type: 'text', description: 'The version that the application declares.' },
  { path: 'workload.producer_id', type: 'text', description: 'NAMESPACE/SERVICEACCOUNT, or what the pod was given.' },
  { path: 'workload.namespace', type: 'text', description: 'Namespace of the workload.' },
  { path: 'workload.region', type: 'text', description: 'Region of the workload, where it is known.' },
  { path: 'workload.labels.{name}', type: 'text', description: 'A label of the pod.' },
]

export type FactPath = readonly (string | number)[]

// Quotes hold what JSON allows there: no control characters.
const PART =
  // oxlint-disable-next-line no-control-regex
  /(?:^|\.)([A-Za-z_][A-Za-z0-9_-]{0,127})|\[(0|[1-9][0-9]{0,4})\]|\["((?:[^"\\\u0000-\u001f]|\\["\\/]){1,317})"\]/y
const MAX_PARTS = 32

/**
 * The parts of a fact's path: names after dots, any member as `["…"]` (JSON's escapes of quote, backslash and slash), an element of a list
 * as `[0]`. Undefined where it is none.
 */
export function parseFactPath(text: string): FactPath | undefined {
  const parts: (string | number)[] = []
  PART.lastIndex = 0
  while (PART.lastIndex < text.length) {
    const match = PART.exec(text)
    if (match === null || parts.length === MAX_PARTS) return undefined
    const [, name, index, quoted] = match
    if (name !== undefined) parts.push(name)
    else if (index !== undefined) parts.push(Number(index))
    else parts.push(JSON.parse(`"${quoted}"`) as string)
    if (parts.length === 1 && name === undefined) return undefined
  }
  return parts.length === 0 ? undefined : parts
}

/** The kind of fact at a path, or undefined where there is none. */
export function factKind(path: FactPath): FactKind | undefined {
  return FACTS.find(({ path: pattern, names }) => {
    const wanted = pattern.split('.')
    if (wanted.at(-1) === '**') {
      return path.length >= wanted.length && wanted.slice(0, -1).every((part, i) => part === path[i])
    }
    return (
      path.length === wanted.length &&
      wanted.every((part, i) => (part === '{name}' ? (names?.includes(String(path[i])) ?? true) : part === path[i]))
    )
  })
}

/** A read of `input` as the compiler writes it: dotted, cut where a part is an index or holds a dot. */
export function readOf(path: FactPath): string {
  const cut = path.findIndex((part) => typeof part === 'number' || part.includes('.') || part === '')
  return (cut === -1 ? path : path.slice(0, cut)).join('.')
}
