import { SignetError } from '../error/signet-error.ts'
import { KEY_USES, type Keyring } from './schema.ts'

const MAX_KEYS = 10_000
/** How a use is written: what is written otherwise is a mistake, not a later version's. */
const USE = /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/

/** What was left out of a keyring: where its keys stood in the file, and the uses that are not known here. */
export type Omission = { readonly places: readonly number[]; readonly uses: readonly string[] }
const omissions = new WeakMap<Keyring, Omission>()

/** Uses of keys that a keyring's file has and `parseKeyring` left out: who writes the file would lose them. */
export function unknownUses(keyring: Keyring): readonly string[] {
  return omissionOf(keyring)?.uses ?? []
}

export function omissionOf(keyring: Keyring): Omission | undefined {
  return omissions.get(keyring)
}

export function noteOmission(keyring: Keyring, omission: Omission): void {
  omissions.set(keyring, omission)
}

/**
 * The keyring without keys whose use is not known here; null where there are none, or it is no keyring at all.
 * @throws SignetError KEYRING_INVALID for such a key without a key_id of its own
 */
export function omitUnknown(value: unknown): (Omission & { readonly keyring: unknown }) | null {
  if (!isObject(value) || !Array.isArray(value['keys']) || value['keys'].length > MAX_KEYS) return null
  const keys: unknown[] = value['keys']
  const places: number[] = []
  const uses = new Set<string>()
  const seen = new Set<unknown>()
  for (const [index, key] of keys.entries()) {
    const use = isObject(key) ? key['use'] : undefined
    const keyId = isObject(key) ? key['key_id'] : undefined
    if (typeof use !== 'string' || KEY_USES.includes(use) || use.length > 64 || !USE.test(use)) places.push(index)
    else if (typeof keyId !== 'string' || keyId === '' || keyId.length > 512)
      throw invalid(`/keys/${index}/key_id`, 'has to be a text of 1 to 512 characters')
    else uses.add(use)
    if (typeof keyId !== 'string') continue
    if (uses.size > 0 && seen.has(keyId))
      throw invalid(`/keys/${index}`, 'has the key_id of a key before it; a key_id names one key')
    seen.add(keyId)
  }
  if (uses.size === 0) return null
  return { keyring: { ...value, keys: places.map((index) => keys[index]) }, places, uses: [...uses] }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function invalid(place: string, what: string): SignetError {
  return new SignetError('KEYRING_INVALID', `in the keyring, ${place} ${what}`, { details: { path: place } })
}
