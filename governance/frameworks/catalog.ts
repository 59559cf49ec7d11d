import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { parse } from 'yaml'
import { SignetError } from '#core/error/signet-error.ts'
import { CHECK_NAMES, type CheckName } from './check-names.ts'

const Reference = Type.String({ pattern: '^[a-z0-9_]+:.+$', description: 'FRAMEWORK:CONTROL' })
const Control = Type.Object(
  {
    id: Type.String({ pattern: '^[A-Za-z0-9.()-]{1,40}$' }),
    title: Type.String({ minLength: 1, maxLength: 100 }),
    /** In our own words. */
    text: Type.String({ minLength: 1, maxLength: 500 }),
    /** What looks at it by itself. */
    check: Type.Optional(Type.Enum(CHECK_NAMES)),
    /** `full`: the check alone decides. Without it, a check is part of what is needed. */
    automation: Type.Optional(Type.Literal('full')),
    /** Ids of shipped rules that hold answers to it. */
    rules: Type.Optional(Type.Array(Type.String({ pattern: '^[a-z0-9-]+$' }))),
    crosswalk: Type.Optional(Type.Array(Reference)),
    how_to: Type.Optional(Type.String({ pattern: '^docs/' })),
  },
  { additionalProperties: false },
)
const Catalog = Type.Object(
  {
    id: Type.String({ pattern: '^[a-z0-9_]{1,40}$' }),
    title: Type.String({ minLength: 1 }),
    source: Type.String({ minLength: 1 }),
    /** As stamps name it (`regulatory_compliance`). */
    codes: Type.Array(Type.String({ pattern: '^[A-Z0-9-]+$' }), { minItems: 1 }),
    controls: Type.Array(Control, { minItems: 1, maxItems: 2_000 }),
  },
  { additionalProperties: false },
)
export type Catalog = Type.Static<typeof Catalog>
export type Control = Type.Static<typeof Control> & { check?: CheckName }

const validator = Compile(Catalog)

/**
 * Reads all catalogs of a folder: `ID.yaml` each. Another framework is another file.
 * @throws SignetError CONFIG_INVALID naming the file and what is wrong: its form, an id that is there twice, a crosswalk to nowhere
 */
export async function readCatalogs(folder: string): Promise<ReadonlyMap<string, Catalog>> {
  const catalogs = new Map<string, Catalog>()
  for (const name of (await readdir(folder)).filter((file) => file.endsWith('.yaml')).sort()) {
    const catalog = parseCatalog(await readFile(path.join(folder, name), 'utf8'), name)
    catalogs.set(catalog.id, catalog)
  }
  const known = new Set(
    [...catalogs.values()].flatMap(({ id, controls }) => controls.map((control) => `${id}:${control.id}`)),
  )
  for (const { id, controls } of catalogs.values())
    for (const control of controls)
      for (const other of control.crosswalk ?? [])
        if (!known.has(other)) throw invalid(`${id}.yaml`, `control ${control.id}: there is no ${other}`)
  return catalogs
}

/** @throws SignetError CONFIG_INVALID */
export function parseCatalog(text: string, file: string): Catalog {
  let value: unknown
  try {
    value = parse(text, { strict: true, uniqueKeys: true, maxAliasCount: 0, schema: 'core' })
  } catch (cause) {
    throw invalid(file, (cause as Error).message.slice(0, 200))
  }
  if (!validator.Check(value)) {
    const [fault] = validator.Errors(value)
    throw invalid(file, `${fault?.instancePath ?? ''} ${fault?.message ?? ''}`.trim())
  }
  if (file !== `${value.id}.yaml`) throw invalid(file, `its id is ${value.id}`)
  const ids = value.controls.map(({ id }) => id)
  const twice = ids.find((id, index) => ids.indexOf(id) !== index)
  if (twice !== undefined) throw invalid(file, `control ${twice} is there twice`)
  const loose = value.controls.find(({ automation, check }) => automation === 'full' && check === undefined)
  if (loose !== undefined) throw invalid(file, `control ${loose.id} is fully automatic without a check`)
  return value
}

/** What looks at how much of a framework by itself; what the words mean is in docs/checklists.md. */
export function automationOf({ controls }: Catalog) {
  const full = controls.filter(({ automation }) => automation === 'full').length
  const partial = controls.filter(
    ({ automation, check, rules }) => automation !== 'full' && (check !== undefined || rules !== undefined),
  ).length
  const none = controls.length - full - partial
  const status = none === 0 && partial === 0 ? 'full' : full + partial === 0 ? 'none' : 'partial'
  return { status, full, partial, none } as const
}

function invalid(file: string, what: string): SignetError {
  return new SignetError('CONFIG_INVALID', `the catalog ${file} cannot be used: ${what}`)
}
