import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { SignetError } from '#core/error/signet-error.ts'
import type { EmbeddedPostgres } from '#runtime/postgres/embedded.ts'
import { provisionDatabase } from '#runtime/postgres/provision.ts'
import type { StateFolder } from '../state.ts'
import { awaitReady, type Child } from './child.ts'

export type GovernanceOptions = {
  readonly state: StateFolder
  /** The primary server: the audit wall is another one. */
  readonly server: EmbeddedPostgres
  readonly adminPassword: string
  readonly password: string
  readonly tenant: string
  readonly url: string
  readonly listen: string
  readonly ledgerUrl: string
  /** undefined: no policies can be made. */
  readonly opa: string | undefined
  readonly run: (name: string, env: Record<string, string>, args?: string[]) => Child
  readonly signal: AbortSignal
}

const DATABASE = 'signet_governance'
const LOGIN = 'signet_governance'
const OWNER_ROLE = 'signet_owner'

/**
 * Starts governance: its database, the tenant with a first user whose password is in the state folder, the process; then signs that user in,
 * so that there is a token to try things with.
 */
export async function startGovernance(options: GovernanceOptions): Promise<Child> {
  const { state, server, adminPassword, password, tenant, url, opa, run, signal } = options
  await provisionDatabase({
    adminUrl: server.url('postgres', 'postgres', adminPassword),
    database: DATABASE,
    ownerRole: OWNER_ROLE,
    loginRole: LOGIN,
    loginPassword: password,
  })
  const owner = { SIGNET_DATABASE_OWNER_URL: server.url(DATABASE, 'postgres', adminPassword) }
  await ended(run('governance-migration', owner, ['migrate']))
  const email = `admin@${tenant.replace(/[^A-Za-z0-9-]/g, '-').slice(0, 60)}.example`
  const secret = await adminPasswordOf(state)
  const tenantOf = {
    ...owner,
    SIGNET_NEW_TENANT: tenant,
    SIGNET_NEW_TENANT_ADMIN_EMAIL: email,
    SIGNET_NEW_TENANT_ADMIN_PASSWORD_FILE: state.adminPassword,
    SIGNET_NEW_TENANT_TOKEN_FILE: state.adminToken,
    SIGNET_NEW_TENANT_BUNDLE_TOKEN_FILE: state.bundleToken,
  }
  await ended(run('governance-tenant', tenantOf, ['create-tenant']))
  const child = run('governance', {
    SIGNET_DATABASE_URL: server.url(DATABASE, LOGIN, password),
    SIGNET_GOVERNANCE_LISTEN: options.listen,
    SIGNET_GOVERNANCE_LEDGER_URL: options.ledgerUrl,
    SIGNET_GOVERNANCE_LEDGER_TOKEN_FILE: state.governanceToken,
    SIGNET_GOVERNANCE_BUNDLE_KEY_FILE: state.bundleKey,
    SIGNET_GOVERNANCE_SECRETS_KEY_FILE: state.secretsKey,
    ...(opa === undefined ? {} : { SIGNET_OPA: opa }),
  })
  await awaitReady(child, `${url}/readyz`, signal)
  await signIn(url, { tenant, email, password: secret }, state)
  return child
}

async function ended(child: Child): Promise<void> {
  const why = await child.exited
  if (!why.includes('(exit 0)')) throw new Error(why)
}

async function adminPasswordOf(state: StateFolder): Promise<string> {
  const there = await readFile(state.adminPassword, 'utf8').catch(() => null)
  if (there !== null && there !== '') return there.trim()
  const made = randomBytes(18).toString('base64url')
  await writeFile(state.adminPassword, `${made}\n`, { mode: 0o600 })
  return made
}

/** A session of the first user, for the commands of the guide. Who changed that password signs in alone. */
async function signIn(
  url: string,
  credentials: { tenant: string; email: string; password: string },
  state: StateFolder,
): Promise<void> {
  const response = await fetch(`${url}/api/v1/session`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(credentials),
  })
  if (response.status === 401) return
  if (response.status !== 201)
    throw new SignetError('INTERNAL', `governance answered ${response.status} when its first user signed in`)
  const { token } = (await response.json()) as { token: string }
  await writeFile(state.adminToken, `${token}\n`, { mode: 0o600 })
}
