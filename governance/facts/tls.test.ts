import 'reflect-metadata'
import type { webcrypto } from 'node:crypto'
import { createServer as createTcpServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { createServer, getCACertificates, setDefaultCACertificates, type TlsOptions } from 'node:tls'
import {
  BasicConstraintsExtension,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
  type X509Certificate,
} from '@peculiar/x509'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { certificateOf } from './tls.ts'

const DAY_MS = 86_400_000
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256' }
const SIGNING = { name: 'ECDSA', hash: 'SHA-256' }
const NOW = Date.now()
const DEFAULT = getCACertificates('default')

const newKeys = async () => crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
const open: Server[] = []
const sockets = new Set<Socket>()
let authority: { certificate: X509Certificate; keys: webcrypto.CryptoKeyPair }

async function listening(server: Server): Promise<number> {
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  open.push(server)
  return (server.address() as AddressInfo).port
}

/** A certificate by the authority that this process trusts, or by itself. */
async function issued(names: readonly string[], { fromDay = -10, toDay = 30, isSelfSigned = false } = {}) {
  const keys = await newKeys()
  const certificate = await X509CertificateGenerator.create({
    serialNumber: '02',
    subject: 'CN=endpoint',
    issuer: isSelfSigned ? 'CN=endpoint' : authority.certificate.subject,
    notBefore: new Date(NOW + fromDay * DAY_MS),
    notAfter: new Date(NOW + toDay * DAY_MS + 3_600_000),
    publicKey: keys.publicKey,
    signingKey: isSelfSigned ? keys.privateKey : authority.keys.privateKey,
    signingAlgorithm: SIGNING,
    extensions: [
      new SubjectAlternativeNameExtension(
        names.map((value) => ({ type: /^[\d.]+$/.test(value) ? ('ip' as const) : ('dns' as const), value })),
      ),
    ],
  })
  const pkcs8 = Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64')
  const key = `-----BEGIN PRIVATE KEY-----\n${pkcs8}\n-----END PRIVATE KEY-----\n`
  return { cert: certificate.toString('pem'), key }
}

const serving = async (options: TlsOptions): Promise<number> => listening(createServer(options))

beforeAll(async () => {
  const keys = await newKeys()
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: '01',
    name: 'CN=authority of a test',
    notBefore: new Date(NOW - 100 * DAY_MS),
    notAfter: new Date(NOW + 100 * DAY_MS),
    keys,
    signingAlgorithm: SIGNING,
    extensions: [new BasicConstraintsExtension(true, 1, true)],
  })
  authority = { certificate, keys }
  setDefaultCACertificates([...DEFAULT, certificate.toString('pem')])
})
afterAll(() => setDefaultCACertificates(DEFAULT))
afterEach(async () => {
  for (const socket of sockets) socket.destroy()
  await Promise.all(open.splice(0).map((server) => new Promise((resolve) => server.close(resolve))))
})

describe('an endpoint', () => {
  it.each(['TLSv1.2', 'TLSv1.3'] as const)('that speaks %s, and whose certificate is good', async (version) => {
    const port = await serving({ ...(await issued(['localhost'])), minVersion: version, maxVersion: version })
    const want = { answers: true, protocol: version, authorized: true, days_left: 30 }
    expect(await certificateOf({ host: 'localhost', port }, NOW)).toEqual(want)
  })
  it.each([
    {
      what: 'that is not trusted',
      make: () => issued(['localhost'], { isSelfSigned: true }),
      want: { problem: 'DEPTH_ZERO_SELF_SIGNED_CERT', days_left: 30 },
    },
    {
      what: 'that ran out',
      make: () => issued(['localhost'], { toDay: -3 }),
      want: { problem: 'CERT_HAS_EXPIRED', days_left: -3 },
    },
    {
      what: 'that is not valid yet',
      make: () => issued(['localhost'], { fromDay: 2 }),
      want: { problem: 'CERT_NOT_YET_VALID', days_left: 30 },
    },
    {
      what: 'that is another host’s',
      make: () => issued(['shop.example']),
      want: { problem: 'ERR_TLS_CERT_ALTNAME_INVALID', days_left: 30 },
    },
  ])('whose certificate is one $what', async ({ make, want }) => {
    const port = await serving(await make())
    const found = await certificateOf({ host: 'localhost', port }, NOW)
    expect(found).toEqual({ answers: true, protocol: 'TLSv1.3', authorized: false, ...want })
  })
  it('that is named by its address', async () => {
    const port = await serving(await issued(['127.0.0.1']))
    expect(await certificateOf({ host: '127.0.0.1', port }, NOW)).toMatchObject({ authorized: true })
    const other = await serving(await issued(['10.0.0.1']))
    expect(await certificateOf({ host: '127.0.0.1', port: other }, NOW)).toMatchObject({
      authorized: false,
      problem: 'ERR_TLS_CERT_ALTNAME_INVALID',
    })
  })
  it.each([
    { what: 'speaks no TLS', serve: (socket: Socket) => void socket.end('HTTP/1.1 400 Bad Request\r\n\r\n') },
    { what: 'hangs', serve: () => undefined },
    {
      what: 'sends a byte of a record now and then',
      serve: (socket: Socket) => {
        socket.write(Buffer.from([22, 3, 3, 64, 0]))
        const dripping = setInterval(() => socket.write(Buffer.from([0])), 50)
        socket.on('close', () => clearInterval(dripping))
      },
    },
  ])('that $what does not answer, and is let go of', async ({ serve }) => {
    const port = await listening(createTcpServer((socket) => serve(socket.resume())))
    expect(await certificateOf({ host: 'localhost', port }, NOW, 500)).toEqual({ answers: false })
    await expect.poll(() => sockets.size, { timeout: 10_000 }).toBe(0)
  })
  it('that is not there does not answer', async () => {
    const port = await listening(createTcpServer())
    await new Promise((resolve) => open.pop()?.close(resolve))
    expect(await certificateOf({ host: '127.0.0.1', port }, NOW)).toEqual({ answers: false })
  })
})
