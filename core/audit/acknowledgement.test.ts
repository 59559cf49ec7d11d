import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { indexKeyring } from '../keyring/keyring.ts'
import { signAck, verifyAck } from './acknowledgement.ts'
import type { IngestAck } from './wire.ts'

function ackKeys(keyId: string, withPrivate = true) {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  const key = {
    use: 'ack',
    alg: 'Ed25519',
    key_id: keyId,
    public_key: publicKey.export({ format: 'der', type: 'spki' }).toString('base64url'),
    ...(withPrivate ? { private_key: privateKey.export({ format: 'der', type: 'pkcs8' }).toString('base64url') } : {}),
    not_before: '2026-01-01T00:00:00.000Z',
    not_after: '2027-01-01T00:00:00.000Z',
  } as const
  const found = indexKeyring({ version: 1, keys: [key] }).ackKey(keyId)
  if (found === undefined) throw new Error('no key')
  return found
}

const key = ackKeys('ack-1')
const UNSIGNED: Omit<IngestAck, 'signature'> = {
  version: 1,
  tenant: 'acme',
  acks: [
    { event_id: 'e', spool_seq: 1, received_digest: `sha256:${'a'.repeat(64)}`, commitment: 'b'.repeat(64), seq: 7 },
  ],
  refused: [{ line: 2, code: 'AUDIT_EVENT_INVALID', detail: 'ü' }],
  checkpoint: { tenant: 'acme', seq: 7, hash: 'c'.repeat(64), timestamp_utc: '2026-11-23T09:30:00.123Z' },
  key_id: 'ack-1',
}

describe('acknowledgements', () => {
  const ack = signAck(UNSIGNED, key)

  it('verify as signed, members that nobody knows included', () => {
    expect(() => verifyAck(ack, key)).not.toThrow()
    expect(() => verifyAck(JSON.parse(JSON.stringify(ack)) as IngestAck, key)).not.toThrow()
    const newer = { ...UNSIGNED, tree: { size: 7 } }
    expect(() => verifyAck(signAck(newer, key), key)).not.toThrow()
  })

  it.each([
    { what: 'another tenant', changed: { ...ack, tenant: 'globex' } },
    { what: 'an ack left out', changed: { ...ack, acks: [] } },
    { what: 'another seq', changed: { ...ack, checkpoint: { ...ack.checkpoint, seq: 8 } } },
    { what: 'a member put in', changed: { ...ack, more: 1 } },
    { what: 'no signature', changed: { ...ack, signature: '' } },
    { what: 'a signature cut short', changed: { ...ack, signature: ack.signature.slice(0, -1) } },
    { what: 'a padded signature', changed: { ...ack, signature: `${ack.signature}==` } },
    { what: "another key's id", changed: { ...ack, key_id: 'ack-2' } },
    {
      what: 'a time past the key',
      changed: signAck(
        { ...UNSIGNED, checkpoint: { ...UNSIGNED.checkpoint, timestamp_utc: '2027-01-01T00:00:00.000Z' } },
        key,
      ),
    },
  ])('with $what do not', ({ changed }) => {
    expect(() => verifyAck(changed, key)).toThrow(expect.objectContaining({ code: 'LEDGER_RESPONSE_INVALID' }))
  })

  it('do not verify with another key of the same id', () => {
    expect(() => verifyAck(ack, ackKeys('ack-1'))).toThrow(expect.objectContaining({ code: 'LEDGER_RESPONSE_INVALID' }))
  })

  it('are signed only with the private part of the key that they name', () => {
    expect(() => signAck(UNSIGNED, ackKeys('ack-1', false))).toThrow(
      expect.objectContaining({ code: 'KEYRING_INVALID' }),
    )
    expect(() => signAck(UNSIGNED, ackKeys('ack-2'))).toThrow(expect.objectContaining({ code: 'KEYRING_INVALID' }))
  })
})
