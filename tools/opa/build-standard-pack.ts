import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { compileModule } from '#engine/compile/compile.ts'
import { readPackSources } from '#engine/compile/pack-sources.ts'
import { ensureOpa } from './build.ts'

const POLICIES = fileURLToPath(new URL('../../policies/', import.meta.url))
/** The rules of responses, and those of compliance events. */
export const PACKS = ['standard', 'events'] as const
export type Pack = (typeof PACKS)[number]
/** Where a compiled pack is committed, so that starting Signet needs no OPA. */
export const packDirectory = (pack: Pack): string => join(POLICIES, 'dist', pack)
export const STANDARD_PACK_DIRECTORY = packDirectory('standard')

/** The files of the compiled standard pack, by name. */
export const compileStandardPack = (opa: string): Promise<Map<string, Buffer>> => compilePack('standard', opa)

/** The files of a compiled pack, by name. Sources: all `*.rego` below `policies/PACK/` but tests. */
export async function compilePack(pack: Pack, opa: string): Promise<Map<string, Buffer>> {
  const sources = await readPackSources(join(POLICIES, pack))
  const { wasm, module } = await compileModule({ scope: 'root', sources, opa, timeoutMs: 60_000 })
  return new Map([
    ['root.wasm', wasm],
    ['module.json', Buffer.from(`${JSON.stringify(module, null, 2)}\n`)],
  ])
}

if (import.meta.main) {
  const opa = await ensureOpa()
  for (const pack of PACKS) {
    const files = await compilePack(pack, opa)
    await mkdir(packDirectory(pack), { recursive: true })
    for (const [name, content] of files) await writeFile(join(packDirectory(pack), name), content)
    process.stdout.write(`wrote ${[...files.keys()].join(' and ')} to policies/dist/${pack}\n`)
  }
}
