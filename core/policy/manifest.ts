import Type from 'typebox'
import { TimestampUtc } from '../stamp/schema.ts'
import { SEVERITIES } from './decision.ts'

/** A rule's id: unique in its module, also the last part of its package (`-` becomes `_`). */
const RuleId = Type.String({ pattern: '^[a-z][a-z0-9-]{0,62}$' })

export const RULE_MODES = ['off', 'shadow', 'enforce'] as const
export type RuleMode = (typeof RULE_MODES)[number]

const Percentage = Type.Integer({ minimum: 0, maximum: 100 })

/** How far a rule is in force besides its mode: its share of requests, and other modes for single tenants. */
export const RuleEnforcement = Type.Object({
  percentage: Type.Optional(Percentage),
  tenants: Type.Optional(
    Type.Record(Type.String(), Type.Object({ mode: Type.Enum(RULE_MODES), percentage: Type.Optional(Percentage) })),
  ),
})
export type RuleEnforcement = Type.Static<typeof RuleEnforcement>

/**
 * A rule as compiled. `reads` is its read set: dotted paths below `input` (`response.facts.email`), made by the compiler,
 * conservative (`""` means all of `input`). `undecidable`: what happens when it cannot be judged, by channel.
 */
export const CompiledRule = Type.Object({
  id: RuleId,
  title: Type.String(),
  severity: Type.Enum(SEVERITIES),
  frameworks: Type.Array(Type.String()),
  /** wasm entrypoint, `signet/root/pii/decision`; where the module has a selector, that. */
  entrypoint: Type.String(),
  reads: Type.Array(Type.String()),
  mode: Type.Enum(RULE_MODES),
  undecidable: Type.Object({ external: Type.Enum(['closed', 'open']), internal: Type.Enum(['closed', 'open']) }),
  enforcement: Type.Optional(RuleEnforcement),
  /** Path templates of its match: the proxy matches them, and gives those that fit as `input.request.matched_templates`. */
  match_templates: Type.Optional(Type.Array(Type.String())),
  /**
   * Of `reads`, what decides whether the rule applies at all. While these are known, `outside: true` in its decision holds, whatever else
   * could not be determined.
   */
  guard: Type.Optional(Type.Array(Type.String())),
})
export type CompiledRule = Type.Static<typeof CompiledRule>

/** Whether the rule has to be evaluated: it is not off, or not for every tenant. */
export function isLive(rule: Pick<CompiledRule, 'mode' | 'enforcement'>): boolean {
  return rule.mode !== 'off' || Object.values(rule.enforcement?.tenants ?? {}).some(({ mode }) => mode !== 'off')
}

/** A separately compiled wasm module: the platform's rules (`root`) or one namespace's own. */
export const CompiledModule = Type.Object({
  scope: Type.Union([Type.Literal('root'), Type.String({ pattern: '^namespace/[a-z0-9-]{1,63}$' })]),
  /** Path in the bundle, `/root/policy.wasm`: OPA takes wasm under that name only. */
  path: Type.String(),
  /** Entrypoint that evaluates every rule of the module at once: an object from rule id to decision. */
  aggregate: Type.String(),
  /**
   * In modules of very many rules, for which OPA cannot compile an entrypoint each: evaluates the one rule that `input.signet_only` names;
   * an object from its id to its decision.
   */
  selector: Type.Optional(Type.String()),
  rules: Type.Array(CompiledRule),
})
export type CompiledModule = Type.Static<typeof CompiledModule>

/** `metadata.signet` of the bundle's OPA `.manifest`; signed as part of the bundle. */
export const BundleMetadata = Type.Object({
  version: Type.Literal(1),
  /** Whom the bundle is for: `*` or `namespace/NAME`. A proxy refuses another's. */
  scope: Type.String(),
  /** Grows with each publication; a lower one than the one in force is refused. */
  sequence: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
  issued_at: TimestampUtc,
  expires_at: TimestampUtc,
  modules: Type.Array(CompiledModule, { minItems: 1 }),
})
export type BundleMetadata = Type.Static<typeof BundleMetadata>
