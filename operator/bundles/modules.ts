import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject } from '#core/json/value.ts'
import { CompiledModule } from '#core/policy/manifest.ts'
import type { BundleContent, BundleModule } from '#engine/bundle/build.ts'
import { canonicalText } from '#engine/bundle/canonical.ts'
import type { StoredRevision } from './revision.ts'

const checker = Compile(CompiledModule)
const LINE_FEED = 0x0a

/** A module as one blob: its description as a line of canonical JSON, then the wasm. */
export function moduleBytes({ module, wasm }: BundleModule): Buffer {
  return Buffer.concat([Buffer.from(`${canonicalText(module as unknown as JsonObject)}\n`), wasm])
}

/** Throws BUNDLE_INVALID. */
export function readModule(bytes: Buffer): BundleModule {
  const end = bytes.indexOf(LINE_FEED)
  let module: unknown
  try {
    module = JSON.parse(bytes.toString('utf8', 0, end))
  } catch (cause) {
    throw new SignetError('BUNDLE_INVALID', 'A stored module has no description', { cause })
  }
  if (end === -1 || !checker.Check(module)) {
    throw new SignetError('BUNDLE_INVALID', 'A stored module has no description of a compiled module')
  }
  return { module, wasm: bytes.subarray(end + 1) }
}

/** What the bundle of a stored revision says; `metadata` is what its signature covers. */
export function storedContent(
  scope: string,
  revision: Pick<StoredRevision, 'sequence' | 'issued_at' | 'expires_at'>,
  modules: readonly BundleModule[],
  policy: JsonObject,
): BundleContent {
  return {
    modules,
    policy,
    metadata: {
      version: 1,
      scope,
      sequence: revision.sequence,
      issued_at: revision.issued_at,
      expires_at: revision.expires_at,
      modules: modules.map(({ module }) => module),
    },
  }
}
