import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

export type TestPair = { readonly cert: string; readonly key: string }
/** An authority of a test's own, made by openssl. PEM; keys PKCS #8, as a broker wants them. */
export type TestAuthority = {
  readonly cert: string
  /** For a server that is reached as `localhost`. */
  issueServer(): TestPair
  /** For a client whose name is this common name. */
  issueClient(name: string): TestPair
}

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'key']

export function createTestAuthority(name: string): TestAuthority {
  const authority = inFolder((openssl) =>
    openssl(['req', '-x509', ...KEY, '-days', '2', '-subj', `/CN=${name}`, '-out', 'crt']),
  )
  const issue = (subject: string, ...extensions: readonly string[]): TestPair =>
    inFolder((openssl, dir) => {
      const added = extensions.flatMap((extension) => ['-addext', extension])
      openssl(['req', '-new', ...KEY, '-subj', `/CN=${subject}`, ...added, '-out', 'csr'])
      writeFileSync(path.join(dir, 'ca'), authority.cert + authority.key)
      openssl(['x509', '-req', '-in', 'csr', '-CA', 'ca', '-copy_extensions', 'copyall', '-days', '2', '-out', 'crt'])
    })
  return {
    cert: authority.cert,
    issueServer: () => issue('localhost', 'subjectAltName=DNS:localhost', 'extendedKeyUsage=serverAuth'),
    issueClient: (common) => issue(common, 'extendedKeyUsage=clientAuth'),
  }
}

/** What openssl left in the files `crt` and `key` of a folder. */
function inFolder(work: (openssl: (args: readonly string[]) => void, dir: string) => void): TestPair {
  const dir = mkdtempSync(path.join(tmpdir(), 'signet-certificate-'))
  try {
    work((args) => void execFileSync('openssl', args, { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] }), dir)
    return { cert: readFileSync(path.join(dir, 'crt'), 'utf8'), key: readFileSync(path.join(dir, 'key'), 'utf8') }
  } finally {
    rmSync(dir, { recursive: true })
  }
}
