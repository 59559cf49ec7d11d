// @peculiar/x509 needs the Reflect polyfill before it.
import 'reflect-metadata'
import { createPrivateKey, createPublicKey, randomBytes, webcrypto, X509Certificate } from 'node:crypto'
import * as x509 from '@peculiar/x509'

/** PEM certificate (the leaf first, where there are several) and PKCS #8 PEM key. */
export type KeyPair = { readonly cert: string; readonly key: string }

const ECDSA_P256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
/** Clocks of pods may be behind ours. */
const BACKDATE_MS = 5 * 60_000

/** A self-signed CA that may sign leaves only (RFC 5280, 4.2.1.9: path length 0). */
export async function createAuthority(options: { readonly now: Date; readonly lifetimeMs: number }): Promise<KeyPair> {
  const serialNumber = serial()
  const keys = await webcrypto.subtle.generateKey(ECDSA_P256, true, ['sign', 'verify'])
  const cert = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber,
    // Of its own, so that verifiers that look for the issuer by name find the right one of two.
    name: [{ CN: [`Signet platform CA ${serialNumber.slice(0, 8)}`] }],
    notBefore: new Date(options.now.getTime() - BACKDATE_MS),
    notAfter: new Date(options.now.getTime() + options.lifetimeMs),
    signingAlgorithm: ECDSA_P256,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  return { cert: pem(cert), key: await exportKey(keys.privateKey) }
}

/** A serving certificate for `dnsNames` (the first is also its common name where it fits), with a key of its own. */
export async function issueServing(options: {
  readonly authority: KeyPair
  readonly dnsNames: readonly string[]
  readonly now: Date
  /** Cut at the authority's end. */
  readonly lifetimeMs: number
}): Promise<KeyPair> {
  const { authority, dnsNames, now } = options
  const issuer = new x509.X509Certificate(authority.cert)
  const signingKey = await webcrypto.subtle.importKey(
    'pkcs8',
    createPrivateKey(authority.key).export({ type: 'pkcs8', format: 'der' }),
    ECDSA_P256,
    false,
    ['sign'],
  )
  const keys = await webcrypto.subtle.generateKey(ECDSA_P256, true, ['sign', 'verify'])
  const cert = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    // RFC 5280, A.1: a common name has 64 characters at most.
    subject: [{ CN: [dnsNames.find((name) => name.length <= 64) ?? 'signet'] }],
    issuer: issuer.subject,
    notBefore: new Date(now.getTime() - BACKDATE_MS),
    notAfter: new Date(Math.min(now.getTime() + options.lifetimeMs, issuer.notAfter.getTime())),
    signingAlgorithm: ECDSA_P256,
    publicKey: keys.publicKey,
    signingKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(dnsNames.map((value) => ({ type: 'dns', value }))),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ],
  })
  return { cert: pem(cert), key: await exportKey(keys.privateKey) }
}

export type CertificateFacts = {
  readonly notBeforeMs: number
  readonly notAfterMs: number
  /** Names of the subject alternative name, sorted. */
  readonly dnsNames: readonly string[]
}

/** What the first certificate of a PEM text says; null where it is none. */
export function readCertificate(text: string): CertificateFacts | null {
  try {
    const cert = new X509Certificate(text)
    const names = cert.subjectAltName?.split(', ').flatMap((name) => (name.startsWith('DNS:') ? [name.slice(4)] : []))
    return {
      notBeforeMs: cert.validFromDate.getTime(),
      notAfterMs: cert.validToDate.getTime(),
      dnsNames: (names ?? []).sort(),
    }
  } catch {
    return null
  }
}

/** Whether the key is that of the first certificate. */
export function fits({ cert, key }: KeyPair): boolean {
  try {
    return new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))
  } catch {
    return false
  }
}

/** Whether `authority` signed the first certificate of `cert`. */
export function signedBy(cert: string, authority: string): boolean {
  try {
    const issuer = new X509Certificate(authority)
    return new X509Certificate(cert).verify(createPublicKey(issuer.publicKey.export({ type: 'spki', format: 'pem' })))
  } catch {
    return false
  }
}

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[\sA-Za-z0-9+/=]+-----END CERTIFICATE-----/g

/** The certificates of a PEM text, each in the form that Node writes; what does not parse is left out. */
export function splitCertificates(text: string): string[] {
  return (text.match(PEM_CERTIFICATE) ?? []).flatMap((block) => {
    try {
      return [new X509Certificate(block).toString()]
    } catch {
      return []
    }
  })
}

function pem(cert: x509.X509Certificate): string {
  return new X509Certificate(Buffer.from(cert.rawData)).toString()
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key))
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
    .export({ type: 'pkcs8', format: 'pem' })
    .toString()
}

/** RFC 5280, 4.1.2.2: positive, at most 20 octets. */
function serial(): string {
  const bytes = randomBytes(16)
  bytes[0] = (bytes[0]! & 0x7f) | 0x40
  return bytes.toString('hex')
}
