import { timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import { compactVerify, decodeProtectedHeader, importJWK } from 'jose'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject } from '#core/json/value.ts'
import type { BundleMetadata } from '#core/policy/manifest.ts'
import {
  bundleFiles,
  bundleRevision,
  checkMetadata,
  contentDigest,
  type BundleContent,
  type BundleModule,
} from './build.ts'
import { sha256Hex } from './canonical.ts'
import { POLICY_DATA, SIGNATURES } from './layout.ts'
import { readTar } from './tar.ts'
import type { TrustRoot } from './trust.ts'

/** Of the bundle as it comes, and of what it holds when unpacked. */
export const MAX_BUNDLE_BYTES = 16 << 20
export const MAX_UNPACKED_BYTES = 64 << 20
const MAX_SIGNATURE_FILE_BYTES = 64 << 10
/** A bundle may be issued this much ahead of our clock. */
const CLOCK_SKEW_MS = 5 * 60_000

/** Payload of the token, as OPA has it; members that we do not use are let be. */
const claimsChecker = Compile(
  Type.Object({
    files: Type.Array(
      Type.Object({ name: Type.String(), hash: Type.String({ minLength: 1 }), algorithm: Type.Literal('SHA-256') }),
    ),
  }),
)

declare const verified: unique symbol

/** A bundle whose signature, files, scope, sequence and validity were checked; only `loadBundle` makes one. */
export interface VerifiedBundle extends BundleContent {
  readonly [verified]: true
  readonly revision: string
  /** SHA-256 (hex) of modules and policy data, of which the revision shows the first 16 digits. */
  readonly digest: string
  /** `kid` of the key that signed it. */
  readonly keyId: string
}

export interface LoadBundleOptions {
  trust: TrustRoot
  /** The loader's own scope: `*`, or `namespace/NAME`, which also takes bundles for `*`. */
  scope: string
  now: Date
  /** The sequence in force; a lower one is refused. */
  minimumSequence?: number
}

/**
 * Verifies a signed bundle and reads it. Throws BUNDLE_INVALID (not a bundle), BUNDLE_UNTRUSTED (signature, key, or a file
 * that was changed, added or removed), BUNDLE_SCOPE, BUNDLE_STALE, BUNDLE_EXPIRED. Nothing in it is looked at before the
 * signature holds.
 */
export async function loadBundle(bytes: Buffer, options: LoadBundleOptions): Promise<VerifiedBundle> {
  const { content, keyId } = await openFiles(await unpack(bytes), options.trust)
  const { metadata } = content
  if (metadata.scope !== '*' && metadata.scope !== options.scope) {
    throw new SignetError('BUNDLE_SCOPE', `The bundle is for ${metadata.scope}, not for ${options.scope}`, {
      details: { found: metadata.scope, expected: options.scope },
    })
  }
  const { minimumSequence = 0 } = options
  if (metadata.sequence < minimumSequence) {
    throw new SignetError(
      'BUNDLE_STALE',
      `The bundle has sequence ${metadata.sequence}; ${minimumSequence} or higher is accepted`,
      { details: { found: metadata.sequence, minimum: minimumSequence } },
    )
  }
  checkValidity(metadata, options.now)
  return Object.freeze({
    ...content,
    revision: bundleRevision(content),
    digest: contentDigest(content),
    keyId,
  }) as VerifiedBundle
}

/**
 * Verifies the files of a signed bundle and reads them; scope, sequence and times are the caller's to judge. Throws
 * BUNDLE_INVALID, BUNDLE_UNTRUSTED.
 */
export async function openFiles(
  files: Map<string, Buffer>,
  trust: TrustRoot,
): Promise<{ content: BundleContent; keyId: string }> {
  const keyId = await verifySignature(files, trust)
  return { content: readContent(files), keyId }
}

/** Throws BUNDLE_EXPIRED unless a bundle with these times is valid at `now`. */
export function checkValidity(metadata: Pick<BundleMetadata, 'issued_at' | 'expires_at'>, now: Date): void {
  const details = { issued_at: metadata.issued_at, expires_at: metadata.expires_at, now: now.toISOString() }
  if (now.getTime() >= Date.parse(metadata.expires_at)) {
    throw new SignetError('BUNDLE_EXPIRED', `The bundle expired at ${metadata.expires_at}`, { details })
  }
  if (now.getTime() + CLOCK_SKEW_MS < Date.parse(metadata.issued_at)) {
    throw new SignetError('BUNDLE_EXPIRED', `The bundle is issued in the future, at ${metadata.issued_at}`, { details })
  }
}

async function unpack(bytes: Buffer): Promise<Map<string, Buffer>> {
  if (bytes.length > MAX_BUNDLE_BYTES) throw invalid(`it is larger than ${MAX_BUNDLE_BYTES >> 20} MiB`)
  try {
    return readTar(await promisify(gunzip)(bytes, { maxOutputLength: MAX_UNPACKED_BYTES }))
  } catch (cause) {
    throw invalid(cause instanceof Error ? cause.message : String(cause), cause)
  }
}

async function verifySignature(files: Map<string, Buffer>, trust: TrustRoot): Promise<string> {
  const signatures = files.get(SIGNATURES)
  if (signatures === undefined) throw untrusted('it has no signature')
  if (signatures.length > MAX_SIGNATURE_FILE_BYTES) throw untrusted('its signature is too large')
  const token = readToken(signatures)
  let keyId: string | undefined
  let payload: Uint8Array
  try {
    keyId = decodeProtectedHeader(token).kid
    const key = trust.keys.find((candidate) => candidate.kid === keyId)
    if (key === undefined) {
      throw new SignetError('BUNDLE_UNTRUSTED', 'The bundle is not trusted: its key is not in the trust root', {
        // Says that newer public keys may help, which no other refusal does.
        details: { unknown_key: String(keyId).slice(0, 200) },
      })
    }
    // The trust root fixes the algorithm; the token only says which key it claims.
    const verification = await compactVerify(token, await importJWK(key, 'ES256'), { algorithms: ['ES256'] })
    payload = verification.payload
  } catch (cause) {
    if (cause instanceof SignetError) throw cause
    throw untrusted('its signature does not verify', cause)
  }
  checkFiles(files, payload)
  return keyId!
}

function readToken(file: Buffer): string {
  try {
    const { signatures } = JSON.parse(file.toString('utf8')) as { signatures: unknown }
    if (Array.isArray(signatures) && signatures.length === 1 && typeof signatures[0] === 'string') return signatures[0]
  } catch {
    // Falls through: the same refusal.
  }
  throw untrusted('.signatures.json does not hold exactly one signature')
}

function checkFiles(files: Map<string, Buffer>, payload: Uint8Array): void {
  const signed = readClaims(payload)
  for (const [name, content] of files) {
    if (name === SIGNATURES) continue
    const want = Buffer.from(signed.get(name) ?? '', 'utf8')
    const found = Buffer.from(sha256Hex(content), 'utf8')
    if (want.length === 0) throw untrusted(`${name} is not signed`)
    if (want.length !== found.length || !timingSafeEqual(want, found)) throw untrusted(`${name} was changed`)
    signed.delete(name)
  }
  for (const name of signed.keys()) throw untrusted(`${name} is missing`)
}

/** File names and hashes that the token signs. */
function readClaims(payload: Uint8Array): Map<string, string> {
  const text = Buffer.from(payload).toString('utf8')
  let claims: unknown
  try {
    claims = JSON.parse(text)
  } catch {
    throw untrusted('its signature is not over JSON')
  }
  if (!claimsChecker.Check(claims)) throw untrusted('its signature is not over files with SHA-256')
  return new Map(claims.files.map(({ name, hash }) => [name, hash]))
}

function readContent(files: Map<string, Buffer>): BundleContent {
  const readJson = (name: string): unknown => {
    const file = files.get(name)
    if (file === undefined) throw invalid(`${name} is missing`)
    try {
      return JSON.parse(file.toString('utf8'))
    } catch (cause) {
      throw invalid(`${name} is not JSON`, cause)
    }
  }
  const manifest = readJson('.manifest') as { metadata?: { signet?: unknown } } | null
  const metadata = manifest?.metadata?.signet
  checkMetadata(metadata)
  const data = readJson('data.json') as JsonObject | null
  const modules = metadata.modules.map((module): BundleModule => {
    const wasm = files.get(module.path.slice(1))
    if (wasm === undefined) throw invalid('a module of the manifest is missing')
    return { module, wasm }
  })
  const content: BundleContent = { metadata, modules, policy: (data?.[POLICY_DATA] ?? {}) as JsonObject }
  // Made again from its parts, it must be the same files, byte by byte: nothing else is in it, and nothing is said twice.
  const want = bundleFiles(content)
  for (const [name, bytes] of want)
    if (!files.get(name)?.equals(bytes)) throw invalid(`${name} is not in canonical form`)
  for (const name of files.keys())
    if (name !== SIGNATURES && !want.has(name)) throw invalid(`${name} does not belong in it`)
  return content
}

function invalid(why: string, cause?: unknown): SignetError {
  return new SignetError('BUNDLE_INVALID', `The bundle is not valid: ${why}`, { cause })
}

function untrusted(why: string, cause?: unknown): SignetError {
  return new SignetError('BUNDLE_UNTRUSTED', `The bundle is not trusted: ${why}`, { cause })
}
