import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { compileModule } from '#engine/compile/compile.ts'
import { ensureOpa } from './build.ts'

const POLICIES = fileURLToPath(new URL('../../policies/', import.meta.url))
const PACK = 'standard'
/** Where the compiled pack is committed, so that starting Signet needs no OPA. */
export const STANDARD_PACK_DIRECTORY = join(POLICIES, 'dist', PACK)

/** The files of the compiled standard pack, by name. Sources: all `*.rego` below `policies/standard/` but tests. */
export async function compileStandardPack(opa: string): Promise<Map<string, Buffer>> {
  const directory = join(POLICIES, PACK)
  const names = (await readdir(directory, { recursive: true }))
    .map((name) => name.replaceAll('\\', '/'))
    .filter((name) => name.endsWith('.rego') && !name.endsWith('_test.rego'))
  const sources = await Promise.all(
    names.map(async (path) => ({ path: `${PACK}/${path}`, text: await readFile(join(directory, path), 'utf8') })),
  )
  const { wasm, module } = await compileModule({ scope: 'root', sources, opa, timeoutMs: 60_000 })
  return new Map([
    ['root.wasm', wasm],
    ['module.json', Buffer.from(`${JSON.stringify(module, null, 2)}\n`)],
  ])
}

if (import.meta.main) {
  const files = await compileStandardPack(await ensureOpa())
  await mkdir(STANDARD_PACK_DIRECTORY, { recursive: true })
  for (const [name, content] of files) await writeFile(join(STANDARD_PACK_DIRECTORY, name), content)
  process.stdout.write(`wrote ${[...files.keys()].join(' and ')} to policies/dist/${PACK}\n`)
}
