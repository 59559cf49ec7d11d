import { gzipSync } from 'node:zlib'
import { calculateJwkThumbprint, CompactSign, exportJWK, generateKeyPair, importJWK, type JWK } from 'jose'
import type { JsonObject } from '#core/json/value.ts'
import { bundleFiles, type BundleContent, type BundleModule } from './build.ts'
import { canonicalText, sha256Hex } from './canonical.ts'
import { SIGNATURES } from './layout.ts'
import { writeTar } from './tar.ts'
import type { TrustRoot } from './trust.ts'

export interface SignBundleOptions {
  /** `/root/policy.wasm` of scope root first; then, at most, `/ns/policy.wasm` of the bundle's namespace. */
  modules: readonly BundleModule[]
  /** What rules read as `data.policy`. */
  policy: JsonObject
  /** For whom: `*`, or `namespace/NAME`. */
  scope: string
  /** A whole number; a proxy refuses one lower than that in force. */
  sequence: number
  issuedAt: Date
  expiresAt: Date
  /** Private P-256 JWK with `kid`. */
  key: JWK
}

/**
 * A signed bundle (tar, gzip) that OPA, too, verifies: `.signatures.json` holds one JWT (ES256) over the name and SHA-256 of
 * each file (https://www.openpolicyagent.org/docs/management-bundles#signing). All but the signature is deterministic.
 * Throws BUNDLE_INVALID.
 */
export async function signBundle(options: SignBundleOptions): Promise<Buffer> {
  const { files } = await signFiles(options)
  const archive = gzipSync(await writeTar([...files].map(([name, content]) => [`/${name}`, content])), { level: 9 })
  // Byte 9 names the operating system (RFC 1952, 2.3.1): unknown, so that all make the same bytes.
  archive[9] = 255
  return archive
}

/** The files of a signed bundle, not yet packed, and the token in `.signatures.json`, of which all else can be made again. */
export async function signFiles(options: SignBundleOptions): Promise<{ files: Map<string, Buffer>; token: string }> {
  const { key } = options
  if (!key.kid) throw new TypeError('the signing key has no kid')
  const files = bundleFiles(bundleContent(options))
  // JSON files are canonical already: OPA's hash of their values is the hash of their bytes.
  const claims = [...files].map(([name, content]) => ({ name, hash: sha256Hex(content), algorithm: 'SHA-256' }))
  const token = await new CompactSign(Buffer.from(canonicalText({ files: claims })))
    .setProtectedHeader({ alg: 'ES256', kid: key.kid })
    .sign(await importJWK(key, 'ES256'))
  return { files: files.set(SIGNATURES, signaturesFile(token)), token }
}

/** What a bundle made with these options says. */
export function bundleContent(options: Omit<SignBundleOptions, 'key'>): BundleContent {
  const { modules, policy, scope, sequence } = options
  return {
    modules,
    policy,
    metadata: {
      version: 1,
      scope,
      sequence,
      issued_at: options.issuedAt.toISOString(),
      expires_at: options.expiresAt.toISOString(),
      modules: modules.map(({ module }) => module),
    },
  }
}

/** `.signatures.json` with this token. */
export function signaturesFile(token: string): Buffer {
  return Buffer.from(canonicalText({ signatures: [token] }))
}

/** A new P-256 key pair; its id is the RFC 7638 thumbprint. `trust` is what verifiers get. */
export async function generateBundleKey(): Promise<{ key: JWK; trust: TrustRoot }> {
  const pair = await generateKeyPair('ES256', { extractable: true })
  const { kty, crv, x, y } = await exportJWK(pair.publicKey)
  const kid = await calculateJwkThumbprint({ kty: kty!, crv: crv!, x: x!, y: y! })
  return {
    key: { ...(await exportJWK(pair.privateKey)), kid, alg: 'ES256' },
    trust: { keys: [{ kty: 'EC', crv: 'P-256', x: x!, y: y!, kid, alg: 'ES256' }] },
  }
}
