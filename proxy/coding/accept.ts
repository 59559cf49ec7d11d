import { CODINGS, codingNamed, type Coding } from './coding.ts'

/** What a client takes (RFC 9110 §12.5.3). */
export type Accepted = {
  /** Quality of each coding, 0 to 1; 0 where it is not taken. */
  readonly weights: Readonly<Record<Coding, number>>
  readonly identity: boolean
  /** Accept-Encoding for the service. */
  readonly upstream: string
}

const NONE = { zstd: 0, br: 0, gzip: 0, deflate: 0 } as const

/** Who says nothing takes anything by the RFC; but clients that cannot decode are those that say nothing. */
export const IDENTITY_ONLY: Accepted = { weights: NONE, identity: true, upstream: 'identity' }

const known = new Map<string, Accepted>()
const MAX_KNOWN = 256
const MAX_KNOWN_LENGTH = 256
/** What stands behind is not looked at. */
const MAX_ITEMS = 64

/** Reads Accept-Encoding. Clients send few of them, which are remembered. An item of another form, or with a bad weight, is not taken. */
export function acceptedCodings(value: string | undefined): Accepted {
  if (value === undefined) return IDENTITY_ONLY
  const found = known.get(value)
  if (found !== undefined) return found
  const read = readAccepted(value)
  if (value.length <= MAX_KNOWN_LENGTH && known.size < MAX_KNOWN) known.set(value, read)
  return read
}

function readAccepted(value: string): Accepted {
  const stated = new Map<Coding | 'identity' | '*', number>()
  for (const item of value.split(',', MAX_ITEMS)) {
    const [name = '', ...parameters] = item.split(';')
    const coding = wildcardOrIdentity(name) ?? codingNamed(name)
    if (coding !== null && !stated.has(coding)) stated.set(coding, weightOf(parameters))
  }
  const others = stated.get('*')
  const weights = { ...NONE } as Record<Coding, number>
  for (const coding of CODINGS) weights[coding] = stated.get(coding) ?? others ?? 0
  return {
    weights,
    // Taken unless it is excluded by name, or by `*;q=0` without being named.
    identity: (stated.get('identity') ?? others ?? 1) > 0,
    upstream: upstreamField(weights),
  }
}

function wildcardOrIdentity(name: string): '*' | 'identity' | null {
  const lower = name.trim().toLowerCase()
  return lower === '*' || lower === 'identity' ? lower : null
}

/** RFC 9110 §12.4.2. */
const WEIGHT = /^\s*q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*$/i

function weightOf(parameters: readonly string[]): number {
  if (parameters.length === 0) return 1
  const weight = parameters.length === 1 ? WEIGHT.exec(parameters[0] as string)?.[1] : undefined
  return weight === undefined ? 0 : Number(weight)
}

/**
 * The client's codings in its own weights, those that we can remove. Not `deflate`: half of all servers mean raw DEFLATE by it
 * (RFC 9110 §8.4.1.2), which clients guess at and a proxy should not. `identity` needs no mention; excluded, it is coded here.
 */
function upstreamField(weights: Readonly<Record<Coding, number>>): string {
  const asked = CODINGS.filter((coding) => coding !== 'deflate' && weights[coding] > 0)
  if (asked.length === 0) return 'identity'
  return asked.map((coding) => (weights[coding] === 1 ? coding : `${coding};q=${weights[coding]}`)).join(', ')
}
