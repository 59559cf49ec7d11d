import { spawn } from 'node:child_process'
import { createPrivateKey, generateKeyPairSync, sign, type KeyObject } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Pool } from 'undici'
import { proveKey } from '#core/identity/exchange.ts'
import type { Keyring } from '#core/keyring/keyring.ts'
import { createAuthority, issueServing } from '#operator/certificates/authority.ts'
import { startApiServer, type TestApiServer } from '../api-server.ts'
import { startLedgerStack, type LedgerProcess, type LedgerStack } from '../ledger.ts'

const ROOT = path.resolve(import.meta.dirname, '../../..')
export const AUDIENCE = 'signet-ledger'
const SYSTEM = 'signet-system'

/** A ledger that knows its callers by the tokens of a real API server, over TLS, with keys that it made itself. */
export type IdentityCluster = {
  readonly api: TestApiServer
  readonly stack: LedgerStack
  readonly ledger: LedgerProcess
  readonly url: string
  /** PEM of the authority of the ledger's certificate. */
  readonly ca: string
  readonly keyringFile: string
  readonly dir: string
  /** Runs `ledger/main.ts init-keys` for a file of that name; gives its path and all that it wrote. */
  initKeys(name: string): Promise<{ file: string; output: string }>
  readKeyring(): Promise<Keyring>
  /** Puts a keyring in the Secret's and the file's place. */
  setKeyring(keyring: Keyring): Promise<void>
  call(request: {
    method?: 'GET' | 'POST' | 'DELETE'
    path: string
    token: string
    body?: unknown
    headers?: Record<string, string>
  }): Promise<CallAnswer>
  exchange(options: ExchangeOptions): Promise<CallAnswer>
  /** Puts another certificate, of the same authority, in the place of the ledger's; gives its PEM. */
  renewCertificate(): Promise<string>
  /** A token of the API server's issuer, signed with a key that it trusts, with any claims. */
  mintToken(claims: object): string
  stop(): Promise<void>
}
export type CallAnswer = {
  status: number
  body: Record<string, never>
  headers: Record<string, string | string[] | undefined>
}
export type ExchangeOptions = {
  token: string
  pair?: { publicKey: KeyObject; privateKey: KeyObject }
  at?: Date
  claims?: { tenant?: string; producer_id?: string }
  change?: (body: Record<string, unknown>) => void
}

const NAMESPACE_MAP = `
version: 1
namespaces:
  demo: { tenant: acme, tenants: [acme-test] }
  payments: { tenant: globex }
`
const SERVICE_ACCOUNTS = {
  version: 1,
  service_accounts: {
    [`${SYSTEM}/signet-operator`]: { tenant: 'acme', scopes: ['audit:write', 'audit:read'] },
    [`${SYSTEM}/signet-admin`]: { tenant: 'acme', scopes: ['audit:admin', 'audit:read'] },
  },
}

export async function startIdentityCluster(): Promise<IdentityCluster> {
  const dir = await mkdtemp(path.join(tmpdir(), 'signet-identity-'))
  const minting = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const mintingFile = path.join(dir, 'minting.pub')
  await writeFile(mintingFile, minting.publicKey.export({ format: 'pem', type: 'spki' }))
  const [api, stack] = await Promise.all([
    startApiServer({ extraArgs: [`--service-account-key-file=${mintingFile}`] }),
    startLedgerStack({ ledgers: 0 }),
  ])
  try {
    return await assemble(dir, api, stack, minting.privateKey)
  } catch (error) {
    await Promise.all([api.stop(), stack.stop()])
    throw error
  }
}

async function assemble(
  dir: string,
  api: TestApiServer,
  stack: LedgerStack,
  mintingKey: KeyObject,
): Promise<IdentityCluster> {
  const put = async (name: string, text: string): Promise<string> => {
    const file = path.join(dir, name)
    await writeFile(file, text, { mode: 0o600 })
    return file
  }
  const kubernetes = {
    SIGNET_KUBERNETES_API: api.url,
    SIGNET_KUBERNETES_CA: await put('api-ca.pem', api.ca),
    SIGNET_KUBERNETES_TOKEN_FILE: await put('api-token', await ledgerToken(api)),
    SIGNET_LEDGER_KEYS_SECRET: `${SYSTEM}/signet-ledger-keys`,
  }
  const initKeys: IdentityCluster['initKeys'] = async (name) => {
    const file = path.join(dir, name)
    return { file, output: await run(['ledger/main.ts', 'init-keys'], { ...kubernetes, SIGNET_LEDGER_KEYRING: file }) }
  }
  const { file: keyringFile } = await initKeys('keyring.json')

  const now = new Date()
  const authority = await createAuthority({ now, lifetimeMs: 3_600_000 })
  const serving = await issueServing({ authority, dnsNames: ['localhost'], now, lifetimeMs: 3_600_000 })
  const ledger = await stack.startLedger({
    env: {
      ...kubernetes,
      SIGNET_LEDGER_KEYRING: keyringFile,
      SIGNET_LEDGER_TLS_CERT: await put('tls.crt', serving.cert),
      SIGNET_LEDGER_TLS_KEY: await put('tls.key', serving.key),
      SIGNET_LEDGER_AUDIENCE: AUDIENCE,
      SIGNET_LEDGER_TOKEN_CACHE_MS: '1000',
      SIGNET_LEDGER_SERVICE_ACCOUNTS: await put('accounts.json', JSON.stringify(SERVICE_ACCOUNTS)),
      SIGNET_NAMESPACE_MAP: await put('map.yaml', NAMESPACE_MAP),
      SIGNET_TRUST_DOMAIN: 'test.example',
    },
  })
  const url = `https://localhost:${ledger.port}`
  const pool = new Pool(url, { connect: { ca: authority.cert } })

  const call: IdentityCluster['call'] = async ({ method = 'POST', path: target, token, body, headers = {} }) => {
    const answer = await pool.request({
      method,
      path: target,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers },
      body: body === undefined ? null : typeof body === 'string' ? body : JSON.stringify(body),
    })
    const text = await answer.body.text()
    return {
      status: answer.statusCode,
      headers: answer.headers,
      body: (text === '' ? {} : JSON.parse(text)) as Record<string, never>,
    }
  }
  return {
    api,
    stack,
    ledger,
    url,
    ca: authority.cert,
    keyringFile,
    dir,
    initKeys,
    call,
    readKeyring: async () => JSON.parse(await readFile(keyringFile, 'utf8')) as Keyring,
    async setKeyring(keyring) {
      const data = { 'keyring.json': Buffer.from(JSON.stringify(keyring)).toString('base64') }
      await api.kubectl(['-n', SYSTEM, 'patch', 'secret', 'signet-ledger-keys', '-p', JSON.stringify({ data })])
      await put('keyring.json', JSON.stringify(keyring))
    },
    async exchange({ token, pair = generateKeyPairSync('ed25519'), at = new Date(), claims = {}, change }) {
      const body: Record<string, unknown> = { version: 1, ...claims, ...proveKey(token, pair, at) }
      change?.(body)
      return call({ path: '/v1/identity', token, body })
    },
    async renewCertificate() {
      const next = await issueServing({ authority, dnsNames: ['localhost'], now: new Date(), lifetimeMs: 3_600_000 })
      await Promise.all([put('tls.crt', next.cert), put('tls.key', next.key)])
      return next.cert
    },
    mintToken: (claims) => mintToken(claims, mintingKey),
    async stop() {
      await pool.destroy()
      await Promise.all([api.stop(), stack.stop()])
      await rm(dir, { recursive: true, force: true })
    },
  }
}

/** What the chart gives the ledger's service account: to review tokens, to make Secrets and to read this one. */
async function ledgerToken(api: TestApiServer): Promise<string> {
  await api.createNamespace(SYSTEM)
  await api.createServiceAccount(SYSTEM, 'signet-ledger')
  const rbac = [
    [
      'create',
      'clusterrolebinding',
      'signet-ledger',
      '--clusterrole=system:auth-delegator',
      `--serviceaccount=${SYSTEM}:signet-ledger`,
    ],
    ['-n', SYSTEM, 'create', 'role', 'signet-ledger', '--verb=create', '--resource=secrets'],
    [
      '-n',
      SYSTEM,
      'create',
      'rolebinding',
      'signet-ledger',
      '--role=signet-ledger',
      `--serviceaccount=${SYSTEM}:signet-ledger`,
    ],
    [
      '-n',
      SYSTEM,
      'create',
      'role',
      'signet-ledger-read',
      '--verb=get',
      '--resource=secrets',
      '--resource-name=signet-ledger-keys',
    ],
    [
      '-n',
      SYSTEM,
      'create',
      'rolebinding',
      'signet-ledger-read',
      '--role=signet-ledger-read',
      `--serviceaccount=${SYSTEM}:signet-ledger`,
    ],
  ]
  for (const args of rbac) await api.kubectl(args)
  return (await api.kubectl(['-n', SYSTEM, 'create', 'token', 'signet-ledger', '--duration=2h'])).trim()
}

export function mintToken(claims: object, key: KeyObject): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const head = `${part({ alg: 'ES256', typ: 'JWT' })}.${part(claims)}`
  const signature = sign('sha256', Buffer.from(head), {
    key: createPrivateKey(key.export({ format: 'pem', type: 'pkcs8' })),
    dsaEncoding: 'ieee-p1363',
  })
  return `${head}.${signature.toString('base64url')}`
}

/** Runs a process of ours to its end. @throws with its output unless it ends with 0 */
export async function run(args: string[], env: Record<string, string>): Promise<string> {
  const child = spawn(process.execPath, args, { cwd: ROOT, env: { PATH: process.env['PATH'], ...env } })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const status = await new Promise((resolve) => child.once('close', resolve))
  if (status !== 0) throw new Error(`${args.join(' ')} ended with ${String(status)}:\n${output}`)
  return output
}
