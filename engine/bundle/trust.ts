import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'

const Coordinate = Type.String({ pattern: '^[A-Za-z0-9_-]{43}$' })

/** The public keys whose bundles are accepted: a JWK Set (RFC 7517) of P-256 keys with distinct `kid`. No private members. */
export const TrustRoot = Type.Object({
  keys: Type.Array(
    Type.Object(
      {
        kty: Type.Literal('EC'),
        crv: Type.Literal('P-256'),
        x: Coordinate,
        y: Coordinate,
        kid: Type.String({ minLength: 1, maxLength: 200 }),
        alg: Type.Optional(Type.Literal('ES256')),
        use: Type.Optional(Type.Literal('sig')),
      },
      { additionalProperties: false },
    ),
    { minItems: 1, maxItems: 100 },
  ),
})
export type TrustRoot = Type.Static<typeof TrustRoot>
const checker = Compile(TrustRoot)

/** Reads a trust root file. Throws CONFIG_INVALID. */
export function parseTrust(text: string): TrustRoot {
  const refuse = (why: string): never => {
    throw new SignetError(
      'CONFIG_INVALID',
      `The trust root for rule bundles is not valid: ${why}. It is a JWK Set of public P-256 keys: {"keys": [{kty, crv, x, y, kid}]}`,
    )
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return refuse('it is not JSON')
  }
  if (!checker.Check(value)) {
    const error = checker.Errors(value)[0]
    return refuse(`${error?.instancePath || '/'} ${error?.message ?? 'is wrong'}`)
  }
  if (new Set(value.keys.map((key) => key.kid)).size < value.keys.length) return refuse('two keys have the same kid')
  return value
}
