import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import {
  MAX_CONDITION_DEPTH,
  MAX_CONDITIONS,
  MAX_CONDITIONS_PER_GROUP,
  OPERATORS,
  type Operator,
} from '#core/rule/condition.ts'
import { FACTS } from '#core/rule/fact.ts'
import {
  ComplianceRuleSpec,
  ComplianceRuleStatus,
  GROUP,
  MAX_REGO_LENGTH,
  RetentionPolicySpec,
  RetentionPolicyStatus,
  VERSION,
} from '#core/rule/model.ts'

export const RULES_REFERENCE_PATH = fileURLToPath(new URL('../docs/reference/rules.md', import.meta.url))

type Schema = Readonly<Record<string, unknown>>

const OPERATOR_MEANING: Readonly<Record<Operator, readonly [value: string, meaning: string]>> = {
  equal: ['text, number, true or false', 'the fact is the value; another type never is'],
  notEqual: ['text, number, true or false', 'the fact is there and is not the value'],
  in: ['a list', 'the fact is one of them'],
  notIn: ['a list', 'the fact is there and is none of them'],
  contains: ['text; for lists also a number', 'text has it as a part, a list as an element'],
  notContains: ['the same', 'the fact is text or a list, and does not'],
  lessThan: ['a number', 'the fact is a number below it'],
  lessThanInclusive: ['a number', 'below or the same'],
  greaterThan: ['a number', 'above'],
  greaterThanInclusive: ['a number', 'above or the same'],
  exists: ['true or false', 'whether the fact is there; null is not there'],
  matches: ['a regular expression', 'text of which it matches a part (RE2 syntax; `^` and `$` for the whole)'],
}

/** `docs/reference/rules.md`, from the model. */
export function rulesReference(): string {
  return `# Rules and retention policies

<!-- Written by tools/generate-rules-reference.ts from core/rule/: change those, then run it. -->

Kinds of the API group \`${GROUP}/${VERSION}\`, namespaced. How to write a rule and test it: [write-a-rule.md](../write-a-rule.md). The schema, with all
limits, is in \`crds/\`. Names are DNS labels of at most 63 lower-case letters, digits and \`-\` that start with a letter.

The API server checks the schema and what its CEL rules say; the operator's webhook also checks facts, operators and values, regular expressions, and
that the Rego compiles. An object that passed while the webhook was away has its faults in its status.

## ComplianceRule (\`crule\`)

In the operator's own namespace a rule applies to all workloads, elsewhere to those of its namespace.

${fieldTable(ComplianceRuleSpec as unknown as Schema, 'spec')}

Members that are marked * are required; exactly one of \`conditions\` and \`rego\` is given. \`methods\`, \`pathTemplates\`, \`statuses\`, \`contentTypes\`, \`channel\`
and \`obligations\` need stage \`egress\`. Rules of the stages \`event\` and \`scan\` are checked and kept for the processes that evaluate them.

### match

A rule whose match does not fit is *outside*: it has no violation and no obligation, even where a fact that its conditions read could not be found out. Where a member of the match
itself is not known, the rule is undecidable. A media type is the service's word, and labels are the application team's.

### enforcement

What the policy data (\`modes.rules\`, [policy-data.md](policy-data.md)) says of a rule replaces all of it. \`percentage\` goes by Signet's own request id, so a request that is tried again may
fall on the other side, and two rules at 10 % do not hit the same requests. A rule that is \`"off"\` (YAML needs the quotes) is not evaluated, unless a tenant has it otherwise.

### conditions

\`\`\`yaml
conditions:
  all:
    - {fact: response.facts.payment_card.count, operator: equal, value: 0}
    - any:
        - {fact: request.caller.region, operator: in, value: [eu-west-1, eu-central-1]}
        - {fact: channel, operator: equal, value: internal}
\`\`\`

They state what must hold. \`all\` holds where each of its conditions does, \`any\` where at least one does; nested at most ${MAX_CONDITION_DEPTH} deep, ${MAX_CONDITIONS_PER_GROUP} in a list, ${MAX_CONDITIONS} in a
rule. When they do not hold, the rule has one violation, with the spec's severity, description, remediation and frameworks. A fact that is absent or null fails its condition,
whatever the operator, but \`exists: false\`. A fact whose detector could not run is undecidable; one of a detector that does not read the media type is 0.

| operator | value | holds where |
|---|---|---|
${OPERATORS.map((name) => `| \`${name}\` | ${OPERATOR_MEANING[name].join(' | ')} |`).join('\n')}

### Facts

A fact is a path below \`input\`, which is also what Rego reads. Names follow dots; \`["…"]\` takes a member of any name (\`workload.labels["app.kubernetes.io/name"]\`), \`[0]\` an element of a list.

| fact | type | what it is |
|---|---|---|
${FACTS.map(({ path, type, description, names }) => `| \`${path}\` | ${type} | ${description}${names === undefined ? '' : ` ${names.map((name) => `\`${name}\``).join(', ')}.`} |`).join('\n')}

Rego also reads \`stage\`, \`approvals\` (\`{id, approved_by, expires_at}\` of each that matches) and whole objects.

### rego

Up to ${MAX_REGO_LENGTH >> 10} KiB of Rego v1: one package with a rule \`decision\`. What it may say is in [write-a-rule.md](../write-a-rule.md#in-rego). A rule that takes more than 4 s or 512 MiB to compile by itself is
left out; so is what is beyond 5,000 rules or 16 MiB in one scope. A rule that is left out never keeps others from being compiled.

### status

${fieldTable(ComplianceRuleStatus as unknown as Schema, 'status')}

## RetentionPolicy (\`rpol\`)

\`\`\`yaml
apiVersion: ${GROUP}/${VERSION}
kind: RetentionPolicy
metadata:
  name: financial-records
spec:
  selector: {frameworks: [SOX]}
  hot: 90d
  archive: 7y
  erasure: {allowed: true, within: 30d}
\`\`\`

${fieldTable(RetentionPolicySpec as unknown as Schema, 'spec')}

Durations are days (\`90d\`) or years of 366 days (\`7y\`), so that seven years are never short of seven years.

### status

${fieldTable(RetentionPolicyStatus as unknown as Schema, 'status')}
`
}

function fieldTable(schema: Schema, root: string): string {
  const rows = ['| field | type | what it is |', '|---|---|---|']
  const visit = (each: Schema, path: string): void => {
    const required = new Set((each['required'] as string[] | undefined) ?? [])
    for (const [name, member] of Object.entries((each['properties'] as Record<string, Schema> | undefined) ?? {})) {
      const at = `${path}.${name}`
      const text = ((member['description'] as string | undefined) ?? '').replaceAll('|', '\\|')
      const otherwise =
        member['default'] === undefined ? '' : ` Default \`${JSON.stringify(member['default']).replaceAll('"', '')}\`.`
      rows.push(`| \`${at}\`${required.has(name) ? ' *' : ''} | ${typeOf(member)} | ${text}${otherwise} |`)
      // Conditions have a section of their own.
      if (at === 'spec.conditions') continue
      visit(member, at)
      if (member['items'] !== undefined) visit(member['items'] as Schema, `${at}[]`)
    }
  }
  visit(schema, root)
  return rows.join('\n')
}

function typeOf(schema: Schema): string {
  if (Array.isArray(schema['enum'])) return (schema['enum'] as string[]).map((each) => `\`${each}\``).join(' ')
  if (schema['type'] === 'array') return `list of ${typeOf(schema['items'] as Schema)}`
  if (schema['patternProperties'] !== undefined) return 'text to text'
  const names: Readonly<Record<string, string>> = {
    string: 'text',
    integer: 'number',
    boolean: 'true or false',
    object: 'object',
  }
  return names[String(schema['type'])] ?? 'text, number, true or false'
}

// `node tools/generate-rules-reference.ts` writes it.
if (import.meta.main) await writeFile(RULES_REFERENCE_PATH, rulesReference())
