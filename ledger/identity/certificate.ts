import 'reflect-metadata'
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509'
import { webcrypto, type KeyObject } from 'node:crypto'
import { sha256 } from '#core/crypto/digest.ts'
import type { ActiveWorkloadCa } from '#core/keyring/keyring.ts'

/** Who a certificate is for. */
export type CertifiedWorkload = {
  readonly trustDomain: string
  readonly namespace: string
  readonly serviceAccount: string
  readonly tenant: string
  readonly producerId: string
}
export type IssuedCertificate = {
  /** PEM: the workload's, then its authority's. */
  readonly chain: string
  /** Lowercase hex. */
  readonly serial: string
  readonly sha256: string
  readonly notBefore: Date
  readonly notAfter: Date
}

const SERIAL_BYTES = 16
const ECDSA = { name: 'ECDSA', hash: 'SHA-256' } as const

/**
 * The URIs of a certificate: who it is in the manner of SPIFFE, and its tenant and producer, which the platform's path does not say.
 * (Three URIs make it no X509-SVID, whose only one has the scheme `spiffe`.)
 */
export function workloadUris(workload: CertifiedWorkload): string[] {
  const { trustDomain, namespace, serviceAccount, tenant, producerId } = workload
  return [
    `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}`,
    `urn:signet:tenant:${encodeURIComponent(tenant)}`,
    `urn:signet:producer:${encodeURIComponent(producerId)}`,
  ]
}

/** Issues a certificate for a workload's Ed25519 key. Critical throughout: it signs statements and nothing else. */
export async function issueCertificate(
  ca: ActiveWorkloadCa & { readonly privateKey: KeyObject },
  publicKey: KeyObject,
  workload: CertifiedWorkload,
  validity: { readonly notBefore: Date; readonly notAfter: Date },
  randomBytes: (length: number) => Buffer,
): Promise<IssuedCertificate> {
  const issuer = new X509Certificate(ca.certificate.raw)
  const serial = serialNumber(randomBytes)
  const subjectKey = publicKey.toCryptoKey('Ed25519', true, ['verify'])
  const certificate = await X509CertificateGenerator.create(
    {
      serialNumber: serial,
      issuer: issuer.subject,
      // Who it is stands in the alternative name, which is critical for that (RFC 5280, section 4.2.1.6).
      subject: '',
      ...validity,
      signingAlgorithm: ECDSA,
      publicKey: subjectKey,
      signingKey: ca.privateKey.toCryptoKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign']),
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension([ExtendedKeyUsage.codeSigning], true),
        new SubjectAlternativeNameExtension(
          workloadUris(workload).map((value) => ({ type: 'url' as const, value })),
          true,
        ),
        await SubjectKeyIdentifierExtension.create(subjectKey, false, webcrypto),
        await AuthorityKeyIdentifierExtension.create(issuer.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  )
  const der = Buffer.from(certificate.rawData)
  return {
    chain: `${certificate.toString('pem')}\n${ca.certificate.toString()}`,
    serial,
    sha256: sha256(der).toString('hex'),
    ...validity,
  }
}

/** A certificate authority for workloads, with a P-256 key of its own: certificate and key as DER (X.509, PKCS#8). */
export async function makeWorkloadCa(
  validity: { readonly notBefore: Date; readonly notAfter: Date },
  randomBytes: (length: number) => Buffer,
): Promise<{ certificate: Buffer; privateKey: Buffer }> {
  const keys = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify'])
  const serial = serialNumber(randomBytes)
  const certificate = await X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: serial,
      name: `CN=Signet workloads ${serial.slice(0, 8)}`,
      ...validity,
      signingAlgorithm: ECDSA,
      keys,
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  )
  const privateKey = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)
  return { certificate: Buffer.from(certificate.rawData), privateKey: Buffer.from(privateKey) }
}

/** Random, positive and never longer than it looks (RFC 5280, section 4.1.2.2). */
function serialNumber(randomBytes: (length: number) => Buffer): string {
  const bytes = randomBytes(SERIAL_BYTES)
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40
  return bytes.toString('hex')
}
