import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject, JsonValue } from '#core/json/value.ts'
import { BundleMetadata, type CompiledModule } from '#core/policy/manifest.ts'
import { canonicalText, sha256Hex } from './canonical.ts'
import { POLICY_DATA, scopePackage } from './layout.ts'

export interface BundleModule {
  module: CompiledModule
  wasm: Buffer
}

/** What a bundle says, before it is signed and after it is verified. */
export interface BundleContent {
  metadata: BundleMetadata
  modules: readonly BundleModule[]
  /** `data.policy` of the rules. */
  policy: JsonObject
}

const metadataChecker = Compile(BundleMetadata)
const ENTRYPOINT = /^signet(\/[a-z][a-z0-9_]*)+$/

/** SHA-256 (hex) over all that decides: modules and policy data; not scope, sequence and times. */
export function contentDigest(content: BundleContent): string {
  const parts: JsonValue[] = content.modules.map(({ module, wasm }) => [
    module as unknown as JsonObject,
    sha256Hex(wasm),
  ])
  return sha256Hex(canonicalText(['signet-bundle-v1', parts, content.policy]))
}

/** The revision as users see it: the sequence and 16 hex digits of the content digest, `12-0123456789abcdef`. */
export function bundleRevision(content: BundleContent): string {
  return `${content.metadata.sequence}-${contentDigest(content).slice(0, 16)}`
}

/**
 * The files of the bundle in OPA's layout, without signature (https://www.openpolicyagent.org/docs/management-bundles).
 * The same content gives the same bytes. Throws BUNDLE_INVALID when the parts do not fit together.
 */
export function bundleFiles(content: BundleContent): Map<string, Buffer> {
  checkContent(content)
  const manifest = {
    metadata: { signet: content.metadata as unknown as JsonObject },
    revision: bundleRevision(content),
    roots: [POLICY_DATA, 'signet'],
    wasm: content.modules.flatMap(({ module }) =>
      [...new Set([module.aggregate, ...module.rules.map((rule) => rule.entrypoint)])].map((entrypoint) => ({
        entrypoint,
        module: module.path,
      })),
    ),
  }
  const files = new Map<string, Buffer>([['data.json', Buffer.from(canonicalText({ [POLICY_DATA]: content.policy }))]])
  for (const { module, wasm } of content.modules) files.set(module.path.slice(1), wasm)
  return files.set('.manifest', Buffer.from(canonicalText(manifest)))
}

/** Throws BUNDLE_INVALID unless this is a bundle's metadata in form. */
export function checkMetadata(metadata: unknown): asserts metadata is BundleMetadata {
  if (metadataChecker.Check(metadata)) return
  const error = metadataChecker.Errors(metadata)[0]
  refuse(`metadata${error?.instancePath ?? ''} ${error?.message ?? 'is wrong'}`)
}

function refuse(message: string): never {
  throw new SignetError('BUNDLE_INVALID', `The bundle is not valid: ${message}`)
}

function checkContent({ metadata, modules }: BundleContent): void {
  checkMetadata(metadata)
  if (!/^(\*|namespace\/[a-z0-9-]{1,63})$/.test(metadata.scope))
    refuse(`scope ${metadata.scope} is not * or namespace/NAME`)
  if (metadata.issued_at >= metadata.expires_at) refuse('it expires before it is issued')
  const [root, namespace, ...rest] = modules
  if (root?.module.scope !== 'root' || root.module.path !== '/root/policy.wasm')
    refuse('the first module is not /root/policy.wasm of scope root')
  if (rest.length > 0) refuse('it has more than two modules')
  if (
    namespace !== undefined &&
    (namespace.module.scope !== metadata.scope || namespace.module.path !== '/ns/policy.wasm')
  ) {
    refuse(`its second module is not /ns/policy.wasm of scope ${metadata.scope}`)
  }
  for (const { module } of modules) {
    const home = scopePackage(module.scope)
    const ids = new Set(module.rules.map((rule) => rule.id))
    if (ids.size < module.rules.length) refuse(`module ${module.path} has a rule id twice`)
    if (module.aggregate !== `signet/aggregate_${home}/decisions`) refuse(`module ${module.path} has another aggregate`)
    for (const { id, entrypoint } of module.rules) {
      if (module.selector !== undefined && entrypoint !== module.selector)
        refuse(`the entrypoint of rule ${id} is not the selector of module ${module.path}`)
      if (ENTRYPOINT.test(entrypoint) && entrypoint.startsWith(`signet/${home}/`)) continue
      refuse(`the entrypoint of rule ${id} is outside ${module.scope}`)
    }
  }
}
