import { SignetError } from '#core/error/signet-error.ts'

/** RFC 6750, section 2.1; the scheme's name is case-insensitive (RFC 9110, section 11.1). */
const BEARER = /^bearer +([A-Za-z0-9\-._~+/]+=*)$/i

/** The token of an Authorization header. @throws SignetError UNAUTHENTICATED, never with the value */
export function bearerToken(authorization: string | undefined, maxChars: number): string {
  if (authorization === undefined || authorization === '') {
    throw new SignetError('UNAUTHENTICATED', 'send the header Authorization: Bearer TOKEN')
  }
  const token = authorization.length > maxChars ? undefined : BEARER.exec(authorization)?.[1]
  if (token === undefined) {
    throw new SignetError('UNAUTHENTICATED', 'the Authorization header is not of the form Bearer TOKEN')
  }
  return token
}
