import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { TlsPair } from './reloading.ts'

/** A self-signed certificate for a name, made by openssl: another implementation than the one under test. */
export function issuePair(commonName: string): TlsPair {
  const folder = mkdtempSync(path.join(tmpdir(), 'signet-certificate-'))
  const [cert, key] = [path.join(folder, 'crt'), path.join(folder, 'key')]
  const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
  const names = ['-subj', `/CN=${commonName}`, '-addext', `subjectAltName=DNS:${commonName}`]
  execFileSync('openssl', [...request, ...names, '-out', cert, '-keyout', key], { stdio: 'ignore' })
  const pair = { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') }
  rmSync(folder, { recursive: true })
  return pair
}
