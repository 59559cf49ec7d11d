import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'

/** The checkout that this file is part of. */
export const ROOT = path.resolve(import.meta.dirname, '..')

/** What `signet up` keeps, by path. Everything in it is made at the first start and read again at the next. */
export type StateFolder = {
  readonly folder: string
  /** The stamp key and the ledger's public acknowledgement key: what a verifier needs. */
  readonly keyring: string
  /** Chain and acknowledgement keys: the ledger's alone. */
  readonly ledgerKeyring: string
  readonly tokenFile: string
  readonly proxyToken: string
  readonly auditorToken: string
  /** Governance's, for the ledger. */
  readonly governanceToken: string
  /** Of the first user of governance. */
  readonly adminPassword: string
  readonly adminToken: string
  readonly passwords: string
  /** What governance seals the secrets of webhooks with. */
  readonly secretsKey: string
  readonly bundleKey: string
  readonly bundleTrust: string
  /** The proxy's, for governance: it gets its bundle there. */
  readonly bundleToken: string
  readonly policyData: string
  readonly spool: string
  readonly logs: string
  readonly wall: string
  readonly work: string
  readonly endpoints: string
}

export function stateFolder(folder: string): StateFolder {
  const at = (name: string): string => path.join(folder, name)
  return {
    folder,
    keyring: at('keyring.json'),
    ledgerKeyring: at('ledger-keyring.json'),
    tokenFile: at('tokens.json'),
    proxyToken: at('proxy.token'),
    auditorToken: at('auditor.token'),
    governanceToken: at('governance.token'),
    adminPassword: at('admin.password'),
    adminToken: at('admin.token'),
    passwords: at('postgres-passwords.json'),
    secretsKey: at('secrets.key'),
    bundleKey: at('bundle-key.json'),
    bundleTrust: at('bundle-trust.json'),
    bundleToken: at('bundle.token'),
    policyData: at('policy-data.json'),
    spool: at('spool'),
    logs: at('logs'),
    wall: at('postgres/wall'),
    work: at('postgres/work'),
    endpoints: at('endpoints.json'),
  }
}

/** Where `signet up` listens; how `verify` knows channel and tenant of a local URL. */
export type Endpoints = {
  readonly external: string
  readonly internal: string
  readonly admin: string
  readonly ledger: string
  readonly governance: string
  readonly tenant: string
}

/** The state folder of a `signet up` nearby: `SIGNET_STATE_DIR`, `.signet` here, `.signet` of this checkout. */
export function findState(env: Readonly<Record<string, string | undefined>>, cwd: string): StateFolder | null {
  const candidates = [env.SIGNET_STATE_DIR, path.join(cwd, '.signet'), path.join(ROOT, '.signet')]
  const found = candidates.find(
    (folder) => folder !== undefined && folder !== '' && existsSync(path.join(folder, 'keyring.json')),
  )
  return found === undefined ? null : stateFolder(path.resolve(cwd, found))
}

export function readEndpoints(state: StateFolder): Endpoints | null {
  try {
    return JSON.parse(readFileSync(state.endpoints, 'utf8')) as Endpoints
  } catch {
    return null
  }
}
