import { createPublicKey } from 'node:crypto'
import type { JWK } from 'jose'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'
import { TimestampUtc } from '#core/stamp/schema.ts'
import { generateBundleKey } from '#engine/bundle/sign.ts'
import type { TrustRoot } from '#engine/bundle/trust.ts'

const Coordinate = Type.String({ pattern: '^[A-Za-z0-9_-]{43}$' })

/**
 * `keys.json` of the Secret. A key is announced (in the trust root, not used), then signs, then is retired: its private half is
 * dropped at once, its public half is kept while a stored revision needs it.
 */
export const SigningKeyFile = Type.Object({
  version: Type.Literal(1),
  keys: Type.Array(
    Type.Object({
      kid: Type.String({ minLength: 1, maxLength: 200 }),
      x: Coordinate,
      y: Coordinate,
      /** Private half; of a retired key it is gone. */
      d: Type.Optional(Coordinate),
      signs_from: TimestampUtc,
      retired_at: Type.Optional(TimestampUtc),
    }),
    { minItems: 1, maxItems: 50 },
  ),
})
export type SigningKeyFile = Type.Static<typeof SigningKeyFile>
type SigningKey = SigningKeyFile['keys'][number]

const checker = Compile(SigningKeyFile)

export type RotationTimes = {
  /** How long a key signs. */
  readonly rotateAfterMs: number
  /** How long before it signs a key is in the trust root: for those who read it now and then. */
  readonly announceMs: number
  /** How long after it is needed by nobody a key stays in the trust root: for replicas and proxies that are behind. */
  readonly lingerMs: number
}

export const ROTATION: RotationTimes = {
  rotateAfterMs: 90 * 86_400_000,
  announceMs: 86_400_000,
  lingerMs: 3_600_000,
}

/** Throws BUNDLE_INVALID, without any of the content. */
export function parseKeyFile(text: string): SigningKeyFile {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    value = null
  }
  if (checker.Check(value) && value.keys.some((key) => key.d !== undefined)) return value
  throw new SignetError(
    'BUNDLE_INVALID',
    'The Secret of the bundle signing key is not in form. Delete it, and a new key is made (docs/bundles.md)',
  )
}

/** The key that signs at this time: of those with a private half the one that signs since last. */
export function signingKey(file: SigningKeyFile, now: Date): { kid: string; jwk: JWK } {
  const able = file.keys.filter((key) => key.d !== undefined)
  const due = able.filter((key) => Date.parse(key.signs_from) <= now.getTime())
  // With all of them in the future (a clock set back) the oldest has to do.
  const key =
    due.reduce<SigningKey | undefined>(later, undefined) ?? able.reduce<SigningKey | undefined>(earlier, undefined)
  if (key === undefined) throw new SignetError('BUNDLE_INVALID', 'There is no private bundle signing key')
  const { kid, x, y, d } = key
  return { kid, jwk: { kty: 'EC', crv: 'P-256', x, y, d: d!, kid, alg: 'ES256' } }
}

/**
 * What has to become of the keys now: the first one made, the next one announced, the former one retired. `stored`: ids of the keys
 * that stored revisions were signed by. Gives the same object where nothing changes.
 */
export async function rotateKeys(
  file: SigningKeyFile | null,
  now: Date,
  stored: ReadonlySet<string>,
  times: RotationTimes,
): Promise<SigningKeyFile> {
  if (file === null) return { version: 1, keys: [await newKey(now)] }
  const active = signingKey(file, now).kid
  const activeKey = file.keys.find((key) => key.kid === active)!
  let changed = false
  const keys: SigningKey[] = []
  for (const key of file.keys) {
    const isFormer = key.d !== undefined && key.kid !== active && key.signs_from <= activeKey.signs_from
    if (isFormer) {
      const { d: _, ...publicHalf } = key
      keys.push({ ...publicHalf, retired_at: now.toISOString() })
      changed = true
      continue
    }
    const lingers = now.getTime() - Date.parse(key.retired_at ?? '') < times.lingerMs
    if (key.retired_at !== undefined && !lingers && !stored.has(key.kid)) changed = true
    else keys.push(key)
  }
  const isAnnounced = keys.some((key) => key.d !== undefined && key.signs_from > activeKey.signs_from)
  const endsMs = Date.parse(activeKey.signs_from) + times.rotateAfterMs
  if (!isAnnounced && now.getTime() >= endsMs - times.announceMs) {
    keys.push(await newKey(new Date(Math.max(endsMs, now.getTime() + times.announceMs))))
    changed = true
  }
  return changed ? { version: 1, keys } : file
}

/** All public halves: what a stored revision may have been signed by. */
export function storedTrust(file: SigningKeyFile): TrustRoot {
  return { keys: file.keys.map(publicKey) }
}

/**
 * What proxies accept: keys that sign or will, those that a bundle in force was signed by, and those retired a moment ago. A key that
 * only an old stored revision needs is not among them.
 */
export function publicTrust(
  file: SigningKeyFile,
  now: Date,
  inForce: ReadonlySet<string>,
  times: RotationTimes,
): TrustRoot {
  const isWanted = (key: SigningKey): boolean =>
    key.d !== undefined || inForce.has(key.kid) || now.getTime() - Date.parse(key.retired_at ?? '') < times.lingerMs
  return { keys: file.keys.filter(isWanted).map(publicKey) }
}

/** A key for tools that take no JWK, OPA among them. */
export function publicKeyPem(key: TrustRoot['keys'][number]): string {
  const { kty, crv, x, y } = key
  return createPublicKey({ key: { kty, crv, x, y }, format: 'jwk' }).export({ format: 'pem', type: 'spki' }) as string
}

async function newKey(signsFrom: Date): Promise<SigningKey> {
  const { key } = await generateBundleKey()
  return { kid: key.kid!, x: key.x!, y: key.y!, d: key.d!, signs_from: signsFrom.toISOString() }
}

function publicKey({ kid, x, y }: SigningKey): TrustRoot['keys'][number] {
  return { kty: 'EC', crv: 'P-256', x, y, kid, alg: 'ES256' }
}

function later(found: SigningKey | undefined, key: SigningKey): SigningKey {
  return found === undefined || key.signs_from > found.signs_from ? key : found
}

function earlier(found: SigningKey | undefined, key: SigningKey): SigningKey {
  return found === undefined || key.signs_from < found.signs_from ? key : found
}
