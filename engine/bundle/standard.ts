import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'
import { CompiledModule } from '#core/policy/manifest.ts'
import type { BundleModule } from './build.ts'

const checker = Compile(CompiledModule)

/**
 * A compiled rule pack (`root.wasm` and `module.json`, as `tools/opa/build-standard-pack.ts` writes them) as the `modules`
 * that `signBundle` wants. Throws BUNDLE_INVALID.
 */
export async function readStandardPack(directory: string): Promise<BundleModule[]> {
  try {
    const module: unknown = JSON.parse(await readFile(join(directory, 'module.json'), 'utf8'))
    if (!checker.Check(module)) throw new Error('module.json is not a compiled module')
    return [{ module, wasm: await readFile(join(directory, 'root.wasm')) }]
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new SignetError('BUNDLE_INVALID', `The rule pack in ${directory} cannot be read: ${reason}`, { cause })
  }
}
