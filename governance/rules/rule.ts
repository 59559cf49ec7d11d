import Type from 'typebox'
import type { JsonObject } from '#core/json/value.ts'
import { SEVERITIES } from '#core/policy/decision.ts'
import { Conditions, type Condition } from '#core/rule/condition.ts'
import { parseFactPath, readOf } from '#core/rule/fact.ts'
import { RULE_NAME_PATTERN, type RuleObject } from '#core/rule/model.ts'
import { Line, Text } from '../http/schemas.ts'

/** What happens elsewhere when a rule fails: its name, and what goes with it. */
const Event = Type.Object(
  {
    type: Type.String({ pattern: '^[a-z][a-z0-9_.-]{0,63}$' }),
    params: Type.Optional(
      Type.Record(
        Type.String({ pattern: '^[A-Za-z][A-Za-z0-9_]{0,63}$' }),
        Type.Union([Type.String({ maxLength: 1_000 }), Type.Number(), Type.Boolean()]),
        {
          maxProperties: 32,
          additionalProperties: false,
        },
      ),
    ),
  },
  { additionalProperties: false },
)

const says = {
  name: Line(200),
  description: Text(2_000),
  framework: Type.String({ pattern: '^[A-Z0-9][A-Z0-9_.-]{0,63}$', description: 'NIST, ISO27001, CIS.' }),
  severity: Type.Enum(SEVERITIES),
  conditions: Conditions,
  event: Event,
  is_active: Type.Boolean(),
}

/** A rule as files and the API have it: `conditions` say what must hold. */
export const NewRule = Type.Object(
  {
    id: Type.String({ pattern: RULE_NAME_PATTERN, description: 'nist-mfa-001' }),
    ...says,
    description: Type.Optional(says.description),
    event: Type.Optional(Event),
    is_active: Type.Optional(says.is_active),
  },
  { additionalProperties: false },
)
export type NewRule = Type.Static<typeof NewRule>

export const RuleChange = Type.Partial(Type.Object(says), { additionalProperties: false, minProperties: 1 })

export type Rule = {
  readonly id: string
  readonly name: string
  readonly description: string
  readonly framework: string
  readonly severity: (typeof SEVERITIES)[number]
  readonly conditions: Condition
  readonly event: { readonly type: string; readonly params?: JsonObject }
  readonly is_active: boolean
}

export const DEFAULT_EVENT = 'non_compliance'

export function ruleOf(given: NewRule): Rule {
  const { description = '', event = { type: DEFAULT_EVENT }, is_active = true } = given
  return {
    ...given,
    description: description === '' ? given.name : description,
    event,
    is_active,
  }
}

/** As the compiler takes it. */
export function ruleObject(
  rule: Pick<Rule, 'id' | 'description' | 'framework' | 'severity' | 'conditions'>,
): RuleObject {
  const { id, description, framework, severity, conditions } = rule
  return { name: id, spec: { description, frameworks: [framework], severity, stage: 'scan', conditions } }
}

/** Paths of the facts that a rule looks at, sorted: `user.mfa_enabled`. */
export function factsOf(condition: Condition): string[] {
  const facts = new Set<string>()
  const visit = (each: Condition): void => {
    for (const inner of [...(each.all ?? []), ...(each.any ?? [])]) visit(inner)
    const path = each.fact === undefined ? undefined : parseFactPath(each.fact)
    if (path !== undefined) facts.add(readOf(path))
  }
  visit(condition)
  return [...facts].sort()
}

/** Whether a rule is about single users: it looks at `user`. */
export function isAboutUsers(rule: Pick<Rule, 'conditions'>): boolean {
  return factsOf(rule.conditions).some((fact) => fact === 'user' || fact.startsWith('user.'))
}
