import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { SEVERITIES } from '#core/policy/decision.ts'
import { RULE_MODES, type CompiledRule } from '#core/policy/manifest.ts'
import type { RuleProblem } from './problem.ts'
import { packagePath, type SyntaxTree } from './syntax.ts'

const Undecidable = Type.Optional(Type.Enum(['closed', 'open']))

/** `custom` of the `# METADATA` block on a rule's package. */
const RuleMetadata = Type.Object(
  {
    id: Type.String({ pattern: '^[a-z][a-z0-9-]{0,62}$' }),
    severity: Type.Enum(SEVERITIES),
    frameworks: Type.Array(Type.String({ pattern: '^[A-Z0-9][A-Z0-9_.-]{0,63}$' }), { maxItems: 64 }),
    mode: Type.Optional(Type.Enum(RULE_MODES)),
    undecidable: Type.Optional(
      Type.Object({ external: Undecidable, internal: Undecidable }, { additionalProperties: false }),
    ),
  },
  { additionalProperties: false },
)
const checker = Compile(RuleMetadata)

const FORM =
  'a rule file needs a "# METADATA" block on its package with scope: package, title, and custom: ' +
  '{id, severity: low|medium|high|critical, frameworks: [...], mode?: enforce|shadow|off, ' +
  'undecidable?: {external?: closed|open, internal?: closed|open}}'

export type RuleHeader = Omit<CompiledRule, 'entrypoint' | 'reads'>

/**
 * What a rule file says of itself. Where nothing is said: mode `enforce`; undecidable is `closed` for external and `open`
 * for internal. Pushes to `problems` and returns undefined when the block is missing or wrong.
 */
export function readRuleHeader(tree: SyntaxTree, file: string, problems: RuleProblem[]): RuleHeader | undefined {
  const annotation = tree.annotations?.find((a) => a.scope === 'package')
  const at = annotation?.location ?? tree.package.location
  const refuse = (message: string): undefined => {
    problems.push({ file, line: at.row, column: at.col, message })
  }
  if (annotation === undefined) return refuse(FORM)
  if (typeof annotation.title !== 'string' || annotation.title === '' || annotation.title.length > 200) {
    return refuse('the METADATA block needs a title of 1 to 200 characters')
  }
  const custom: unknown = annotation.custom ?? {}
  if (!checker.Check(custom)) {
    const error = checker.Errors(custom)[0]
    const path = `custom${(error?.instancePath ?? '').replaceAll('/', '.')}`
    return refuse(`METADATA ${path} ${error?.message ?? 'is wrong'}; ${FORM}`)
  }
  const last = packagePath(tree).at(-1)
  if (custom.id.replaceAll('-', '_') !== last) {
    return refuse(`rule id ${custom.id} must be the last part of its package (with - as _), which is ${last}`)
  }
  return {
    id: custom.id,
    title: annotation.title,
    severity: custom.severity,
    frameworks: custom.frameworks,
    mode: custom.mode ?? 'enforce',
    undecidable: {
      external: custom.undecidable?.external ?? 'closed',
      internal: custom.undecidable?.internal ?? 'open',
    },
  }
}
