import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'

/** A time-stamp authority that is real: OpenSSL makes its tokens (`openssl ts`). */
export type TimestampAuthority = {
  readonly url: string
  /** PEM of its root. */
  readonly rootFile: string
  /** Answers to the next request in its place, once. */
  answerNext(answer: (response: ServerResponse) => void): void
  readonly requests: () => number
  reply(query: Uint8Array): Buffer
  /** What a token says, signed by a certificate of the same root that is for something else. */
  sign(token: Uint8Array, usage: string): Buffer
  stop(): Promise<void>
}

export async function startTimestampAuthority(): Promise<TimestampAuthority> {
  const dir = mkdtempSync(path.join(tmpdir(), 'signet-tsa-'))
  const at = (name: string): string => path.join(dir, name)
  const openssl = (...args: string[]): void => void execFileSync('openssl', args, { stdio: 'pipe' })
  writeFileSync(
    at('tsa.cnf'),
    `[req]
distinguished_name = dn
prompt = no
[dn]
CN = Test authority root
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
[leaf]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
[authority]
serial = ${at('serial')}
signer_cert = ${at('tsa.crt')}
certs = ${at('ca.crt')}
signer_key = ${at('tsa.key')}
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
ess_cert_id_alg = sha256
`,
  )
  writeFileSync(at('serial'), '01\n')
  const ca = ['-keyout', at('ca.key'), '-out', at('ca.crt'), '-config', at('tsa.cnf'), '-extensions', 'ca']
  openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '30', ...ca)
  openssl(
    'req',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-keyout',
    at('tsa.key'),
    '-out',
    at('tsa.csr'),
    '-subj',
    '/O=Signet tests/CN=Test authority',
  )
  const signing = ['-CA', at('ca.crt'), '-CAkey', at('ca.key'), '-CAcreateserial', '-days', '20']
  openssl(
    'x509',
    '-req',
    '-in',
    at('tsa.csr'),
    ...signing,
    '-extfile',
    at('tsa.cnf'),
    '-extensions',
    'leaf',
    '-out',
    at('tsa.crt'),
  )

  const reply = (query: Uint8Array): Buffer => {
    const [asked, answer] = [at(`${randomUUID()}.tsq`), at(`${randomUUID()}.tsr`)]
    writeFileSync(asked, query)
    openssl('ts', '-reply', '-queryfile', asked, '-out', answer, '-config', at('tsa.cnf'), '-section', 'authority')
    return readFileSync(answer)
  }
  let next: ((response: ServerResponse) => void) | null = null
  let requests = 0
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      requests += 1
      const instead = next
      next = null
      if (instead !== null) instead(response)
      else response.writeHead(200, { 'content-type': 'application/timestamp-reply' }).end(reply(Buffer.concat(chunks)))
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/tsa`,
    rootFile: at('ca.crt'),
    answerNext(answer) {
      next = answer
    },
    requests: () => requests,
    reply,
    sign(token, usage) {
      const [given, info, extensions, made] = ['token', 'info', 'extensions', 'forged'].map((name) => at(name)) as [
        string,
        string,
        string,
        string,
      ]
      writeFileSync(given, token)
      openssl('cms', '-verify', '-noverify', '-inform', 'DER', '-in', given, '-out', info)
      writeFileSync(extensions, `extendedKeyUsage = ${usage}\n`)
      openssl('x509', '-req', '-in', at('tsa.csr'), ...signing, '-extfile', extensions, '-out', at('forger.crt'))
      const content = ['-binary', '-nodetach', '-econtent_type', '1.2.840.113549.1.9.16.1.4', '-in', info]
      openssl(
        'cms',
        '-sign',
        ...content,
        '-outform',
        'DER',
        '-out',
        made,
        '-signer',
        at('forger.crt'),
        '-inkey',
        at('tsa.key'),
      )
      return readFileSync(made)
    },
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      rmSync(dir, { recursive: true, force: true })
    },
  }
}
