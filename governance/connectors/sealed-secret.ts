import { readFile } from 'node:fs/promises'
import { pae } from '#core/crypto/pae.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { SEAL_KEY_BYTES, SEAL_NONCE_BYTES, SealKey } from '#core/seal/cipher.ts'

/** Secrets of connectors as the database has them: each opens for its own tenant and connector only. */
export type SecretBox = {
  seal(place: Place, secret: string): Buffer
  /** @throws SignetError SEAL_INVALID: another key, or a row that was changed or moved */
  open(place: Place, sealed: Buffer): string
}
type Place = { readonly tenant: string; readonly connectorId: string }

export function createSecretBox(key: SealKey, randomBytes: (length: number) => Buffer): SecretBox {
  const bound = ({ tenant, connectorId }: Place): Buffer =>
    pae('SignetV1', 'application/vnd.signet.connector-secret.v1', tenant, connectorId)
  return {
    seal: (place, secret) => key.seal(Buffer.from(secret, 'utf8'), bound(place), randomBytes(SEAL_NONCE_BYTES)),
    open: (place, sealed) => key.open(sealed, bound(place)).toString('utf8'),
  }
}

/** The key in a file: 32 bytes in base64, one line. @throws SignetError CONFIG_INVALID, without what the file holds */
export async function readSecretsKey(file: string): Promise<SealKey> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new SignetError('CONFIG_INVALID', `SIGNET_GOVERNANCE_SECRETS_KEY_FILE: ${file} cannot be read`, { cause })
  })
  const line = text.trim()
  const key = Buffer.from(line, 'base64')
  if (key.length !== SEAL_KEY_BYTES || key.toString('base64') !== line)
    throw new SignetError(
      'CONFIG_INVALID',
      `SIGNET_GOVERNANCE_SECRETS_KEY_FILE: ${file} has to hold ${SEAL_KEY_BYTES} bytes in base64`,
    )
  return new SealKey(key)
}
