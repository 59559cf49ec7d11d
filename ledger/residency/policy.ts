import Type from 'typebox'
import { Compile } from 'typebox/compile'
import type { AuditEvent } from '#core/audit/event.ts'
import { firstFault } from '#core/error/schema-fault.ts'
import { SignetError } from '#core/error/signet-error.ts'

const Name = Type.String({ minLength: 1, maxLength: 256 })
/** A text in which `*` stands for any characters, once at most. */
const Pattern = Type.String({ minLength: 1, maxLength: 256, pattern: '^[^*]*\\*?[^*]*$' })

/** Which data may be kept where (`docs/reference/sealing.md`, Residency): tenants and users lead to regions, regions to stores. */
export const ResidencyFile = Type.Object(
  {
    version: Type.Literal(1),
    /** The store that this ledger's wall is. */
    here: Name,
    stores: Type.Array(
      Type.Object(
        { name: Name, regions: Type.Array(Name, { minItems: 1, maxItems: 1_000 }) },
        { additionalProperties: false },
      ),
      { minItems: 1, maxItems: 1_000 },
    ),
    /** The first that fits an event decides. */
    rules: Type.Array(
      Type.Object(
        {
          /** `*`: every tenant. */
          tenant: Name,
          /** Fits where the actor, a person as resource or `context.data_subject` is one of these. */
          users: Type.Optional(Type.Array(Pattern, { minItems: 1, maxItems: 10_000 })),
          /** Fits where the event says that it happened there. */
          event_region: Type.Optional(Pattern),
          /** Where such data have to be. */
          region: Name,
        },
        { additionalProperties: false },
      ),
      { maxItems: 10_000 },
    ),
    /** Where data have to be that no rule fits: a region, or `any`. */
    otherwise: Type.Optional(Name),
  },
  { additionalProperties: false },
)
export type ResidencyFile = Type.Static<typeof ResidencyFile>
type Rule = ResidencyFile['rules'][number]

const validator = Compile(ResidencyFile)
const ANY = 'any'

/** What residency says of a tenant, for the tenant to read. */
export type Residency = {
  readonly enforced: boolean
  /** This ledger's store and its regions; null where no residency is set. */
  readonly store: { readonly name: string; readonly regions: readonly string[] } | null
  readonly rules: readonly {
    readonly users: readonly string[] | null
    readonly event_region: string | null
    readonly region: string
    readonly store: string
    /** Whether this ledger keeps such data. */
    readonly here: boolean
  }[]
  readonly otherwise: { readonly region: string; readonly store: string | null; readonly here: boolean }
}

export type ResidencyPolicy = {
  /** Why this ledger may not keep the event; null where it may. Names nobody. Takes the event before sealing. */
  violation(tenant: string, event: AuditEvent): string | null
  residencyOf(tenant: string): Residency
}

/** Anything anywhere. */
export const NO_RESIDENCY: ResidencyPolicy = {
  violation: () => null,
  residencyOf: () => ({ enforced: false, store: null, rules: [], otherwise: { region: ANY, store: null, here: true } }),
}

/** @throws SignetError CONFIG_INVALID naming the place; `source` names the file in messages */
export function residencyPolicy(value: unknown, source: string): ResidencyPolicy {
  const file = checkFile(value, source)
  const storeOf = new Map(file.stores.flatMap(({ name, regions }) => regions.map((region) => [region, name])))
  const here = file.stores.find(({ name }) => name === file.here)
  const otherwise = file.otherwise ?? ANY
  const byTenant = (tenant: string): Rule[] =>
    file.rules.filter((rule) => rule.tenant === tenant || rule.tenant === '*')
  const regionOf = (tenant: string, event: AuditEvent): string => {
    const people = peopleOf(event)
    return byTenant(tenant).find((rule) => fits(rule, event, people))?.region ?? otherwise
  }
  const isHere = (region: string): boolean => region === ANY || storeOf.get(region) === file.here
  return {
    violation(tenant, event) {
      const region = regionOf(tenant, event)
      if (isHere(region)) return null
      return `such data of this tenant have to be in the region ${region}, in the store ${storeOf.get(region)}; this is the store ${file.here}`
    },
    residencyOf: (tenant) => ({
      enforced: true,
      store: { name: file.here, regions: here?.regions ?? [] },
      rules: byTenant(tenant).map(({ users = null, event_region = null, region }) => ({
        users,
        event_region,
        region,
        store: storeOf.get(region) ?? '',
        here: isHere(region),
      })),
      otherwise: { region: otherwise, store: storeOf.get(otherwise) ?? null, here: isHere(otherwise) },
    }),
  }
}

function checkFile(value: unknown, source: string): ResidencyFile {
  const invalid = (what: string): SignetError => new SignetError('CONFIG_INVALID', `${source}: ${what}`)
  if (!validator.Check(value)) {
    const { path, allowed } = firstFault(validator.Errors(value))
    throw invalid(`${path} ${allowed}`)
  }
  const names = value.stores.map(({ name }) => name)
  const regions = value.stores.flatMap((store) => store.regions)
  if (new Set(names).size !== names.length) throw invalid('/stores has a name twice')
  if (new Set(regions).size !== regions.length) throw invalid('/stores has a region twice: it has to lead to one store')
  if (!names.includes(value.here)) throw invalid('/here is not the name of one of the stores')
  const unknown = value.rules.findIndex(({ region }) => !regions.includes(region))
  if (unknown !== -1) throw invalid(`/rules/${unknown}/region is a region of no store`)
  if (value.otherwise !== undefined && value.otherwise !== ANY && !regions.includes(value.otherwise))
    throw invalid('/otherwise is neither "any" nor a region of a store')
  return value
}

function peopleOf({ actor, resource_id: id, context }: AuditEvent): string[] {
  const subject = context?.['data_subject']
  return [actor, ...(id === undefined ? [] : [id]), ...(typeof subject === 'string' ? [subject] : [])]
}

function fits({ users, event_region: region }: Rule, event: AuditEvent, people: readonly string[]): boolean {
  if (region !== undefined && (event.region === undefined || !matches(region, event.region))) return false
  return users === undefined || people.some((name) => users.some((pattern) => matches(pattern, name)))
}

function matches(pattern: string, text: string): boolean {
  const star = pattern.indexOf('*')
  if (star === -1) return pattern === text
  const [start, end] = [pattern.slice(0, star), pattern.slice(star + 1)]
  return text.length >= start.length + end.length && text.startsWith(start) && text.endsWith(end)
}
