import { createPublicKey, generateKeyPairSync, randomBytes, X509Certificate, type KeyObject } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { indexKeyring, type ActiveWorkloadCa } from '#core/keyring/keyring.ts'
import { issueCertificate, makeWorkloadCa } from './certificate.ts'

const VALIDITY = { notBefore: new Date('2026-01-01T00:00:00.000Z'), notAfter: new Date('2031-01-01T00:00:00.000Z') }
const workload = {
  trustDomain: 'cluster.local',
  namespace: 'reports',
  serviceAccount: 'api',
  tenant: 'acme, DNS:evil.example',
  producerId: 'reports/api',
}

async function newCa(): Promise<ActiveWorkloadCa & { privateKey: KeyObject }> {
  const { certificate, privateKey } = await makeWorkloadCa(VALIDITY, randomBytes)
  const ca = indexKeyring({
    version: 1,
    keys: [
      {
        use: 'workload-ca',
        alg: 'ECDSA-P256',
        key_id: 'ca',
        certificate: certificate.toString('base64url'),
        private_key: privateKey.toString('base64url'),
        not_before: VALIDITY.notBefore.toISOString(),
        not_after: VALIDITY.notAfter.toISOString(),
      },
    ],
  }).activeWorkloadCa(new Date('2026-06-01T00:00:00.000Z'), new Date('2026-06-02T00:00:00.000Z'))
  if (ca?.privateKey == null) throw new Error('no authority')
  return { ...ca, privateKey: ca.privateKey }
}

describe('issueCertificate', () => {
  it('certifies a key for a workload', async () => {
    const ca = await newCa()
    const { publicKey } = generateKeyPairSync('ed25519')
    const notBefore = new Date('2026-06-01T00:00:00.000Z')
    const notAfter = new Date('2026-06-02T00:00:00.000Z')
    const issued = await issueCertificate(ca, publicKey, workload, { notBefore, notAfter }, randomBytes)

    const [leafPem = '', caPem = ''] = issued.chain.split(/(?<=-----END CERTIFICATE-----\n)/)
    const leaf = new X509Certificate(leafPem)
    expect(new X509Certificate(caPem).fingerprint256).toBe(ca.certificate.fingerprint256)
    expect(leaf.checkIssued(ca.certificate)).toBe(true)
    expect(leaf.verify(createPublicKey(ca.certificate.publicKey.export({ format: 'pem', type: 'spki' })))).toBe(true)
    expect(leaf.publicKey.equals(publicKey)).toBe(true)
    expect(leaf.ca).toBe(false)
    expect(leaf.subjectAltName).toBe(
      'URI:spiffe://cluster.local/ns/reports/sa/api, URI:urn:signet:tenant:acme%2C%20DNS%3Aevil.example, URI:urn:signet:producer:reports%2Fapi',
    )
    expect(leaf.keyUsage).toEqual(['1.3.6.1.5.5.7.3.3'])
    expect(leaf.serialNumber.toLowerCase()).toBe(issued.serial)
    expect(leaf.fingerprint256.replaceAll(':', '').toLowerCase()).toBe(issued.sha256)
    expect([leaf.validFromDate, leaf.validToDate]).toEqual([notBefore, notAfter])
  })

  it('is not issued by an authority of the same making', async () => {
    const [ca, other] = [await newCa(), await newCa()]
    const { publicKey } = generateKeyPairSync('ed25519')
    const issued = await issueCertificate(ca, publicKey, workload, VALIDITY, randomBytes)
    const leaf = new X509Certificate(issued.chain)
    expect(leaf.checkIssued(other.certificate)).toBe(false)
    expect(leaf.verify(other.certificate.publicKey)).toBe(false)
  })
})
