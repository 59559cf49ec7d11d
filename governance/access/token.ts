import { createHash, randomBytes } from 'node:crypto'

/** Told by its beginning, so that scanners for leaked secrets can find it. */
const PREFIX = 'sgn_'
export const TOKEN_PATTERN = /^sgn_[A-Za-z0-9_-]{43}$/

/** A new token: 32 random bytes, in base64url. Only its digest is kept. */
export function newToken(random: (bytes: number) => Buffer = randomBytes): { token: string; sha256: Buffer } {
  const token = PREFIX + random(32).toString('base64url')
  return { token, sha256: tokenDigest(token) }
}

export function tokenDigest(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}
