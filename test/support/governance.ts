import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import pg from 'pg'
import { ensureTenant } from '#governance/access/tenants.ts'
import { LOGIN_ROLE, migrateGovernance, OWNER_ROLE } from '#governance/store/migrations.ts'
import { generateBundleKey } from '#engine/bundle/sign.ts'
import type { TrustRoot } from '#engine/bundle/trust.ts'
import { uuidV7 } from '#runtime/identifier.ts'
import { provisionDatabase } from '#runtime/postgres/provision.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import { startLedgerStack, type LedgerStack } from './ledger.ts'

/**
 * Governance as in production, for tests: its database on the primary server (beside the ledger's work database), a real ledger, and the
 * process as a child. Tenants `acme` and `globex`, each with a first user, an Admin.
 *
 *   const stack = await startGovernanceStack()
 *   await stack.call('acme', 'POST', '/api/v1/users', { email: 'a@acme.example', name: 'A' })   // as acme's Admin
 *   await stack.stop()
 */
export type GovernanceStack = {
  readonly ledger: LedgerStack
  readonly adminUrl: string
  readonly loginUrl: string
  /** Public keys of the bundles that it publishes. */
  readonly bundleTrust: TrustRoot
  /** The running process; `restart` replaces it. */
  readonly process: () => GovernanceProcess
  /** Of the tenant's first user. */
  token(tenant: string): string
  /** A call with a token, by default that of the tenant's Admin. */
  call(tenant: string, method: string, url: string, body?: unknown, token?: string | null): Promise<Called>
  /** Starts the process again, after a kill or while it runs; a variable that is undefined is not set. */
  restart(env?: Record<string, string | undefined>): Promise<void>
  /** A statement in the primary store, as its superuser, with the tenant set. */
  query(sql: string, tenant: string): Promise<void>
  /** Events of a tenant in the ledger that governance wrote, oldest first. */
  events(tenant: string, query?: string): Promise<LoggedEvent[]>
  stop(): Promise<void>
}
/** JSON of any shape: what it has to be is for the test to say. */
// oxlint-disable-next-line typescript/no-explicit-any
type Json = any
export type Called = { readonly status: number; readonly body: Json; readonly headers: Headers }
export type LoggedEvent = {
  readonly event_id: string
  readonly event_type: string
  readonly actor: string
  readonly action: string
  readonly outcome: string
  readonly resource: string
  readonly before: Json
  readonly after: Json
  readonly context?: Json
}
export type GovernanceProcess = {
  readonly url: string
  readonly child: ChildProcess
  output(): string
  kill(): Promise<void>
}

const PASSWORD = 'governance of a test'
const TENANTS = ['acme', 'globex']
const IDENTITIES = [
  {
    name: 'governance',
    tenant: 'platform',
    tenants: '*' as const,
    producer_id: 'signet/governance',
    scopes: ['audit:write', 'audit:read', 'audit:personal'],
  },
  { name: 'proxy', tenant: 'acme', producer_id: 'demo/api', scopes: ['audit:write', 'audit:read'] },
  { name: 'exporter', tenant: 'acme', scopes: ['audit:export'] },
]
export const FIRST_PASSWORD = 'correct horse battery staple'

/** `env`: more variables of the process. `ledgerUrl`: where governance finds the ledger instead, for instance through something that breaks. */
export async function startGovernanceStack(
  options: { ledgerUrl?: (real: string) => Promise<string>; env?: Record<string, string> } = {},
): Promise<GovernanceStack> {
  const ledger = await startLedgerStack({ identities: IDENTITIES })
  try {
    const { server } = ledger.work
    const database = 'signet_governance'
    const superuser = (name: string): string => ledger.work.adminUrl.replace(/\/[^/]*$/, `/${name}`)
    const adminUrl = superuser(database)
    await provisionDatabase({
      adminUrl: superuser('postgres'),
      database,
      ownerRole: OWNER_ROLE,
      loginRole: LOGIN_ROLE,
      loginPassword: PASSWORD,
    })
    await migrateGovernance(adminUrl)
    const tokens = new Map<string, string>()
    for (const tenant of TENANTS) {
      const admin = { email: `admin@${tenant}.example`, name: 'Admin', password: FIRST_PASSWORD }
      const token = await ensureTenant(
        adminUrl,
        { tenant, name: tenant, admin },
        { newId: uuidV7, clock: () => new Date() },
      )
      tokens.set(tenant, token ?? '')
    }
    const tokenFile = path.join(ledger.dir, 'governance.token')
    await writeFile(tokenFile, ledger.token('governance'), { mode: 0o600 })
    const bundleKey = await generateBundleKey()
    const bundleKeyFile = path.join(ledger.dir, 'bundle-key.json')
    await writeFile(bundleKeyFile, JSON.stringify(bundleKey), { mode: 0o600 })
    const loginUrl = server.url(database, LOGIN_ROLE, PASSWORD)
    const [realLedger] = ledger.ledgers
    const real = realLedger?.url ?? ''
    const env = {
      SIGNET_DATABASE_URL: loginUrl,
      SIGNET_GOVERNANCE_LISTEN: '127.0.0.1:0',
      SIGNET_GOVERNANCE_LEDGER_URL: options.ledgerUrl === undefined ? real : await options.ledgerUrl(real),
      SIGNET_GOVERNANCE_LEDGER_TOKEN_FILE: tokenFile,
      SIGNET_GOVERNANCE_SWEEP_AFTER_MS: '1000',
      SIGNET_OPA: await ensureOpa(),
      SIGNET_GOVERNANCE_BUNDLE_KEY_FILE: bundleKeyFile,
      ...options.env,
    }
    let running = await spawnGovernance(env)
    const token = (tenant: string): string => tokens.get(tenant) ?? ''
    return {
      ledger,
      adminUrl,
      loginUrl,
      bundleTrust: bundleKey.trust,
      process: () => running,
      token,
      async call(tenant, method, url, body, given = token(tenant)) {
        const response = await fetch(`${running.url}${url}`, {
          method,
          headers: {
            ...(given === null ? {} : { authorization: `Bearer ${given}` }),
            ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          },
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        })
        const text = await response.text()
        const isJson = /json/.test(response.headers.get('content-type') ?? '')
        return { status: response.status, body: isJson ? JSON.parse(text) : null, headers: response.headers }
      },
      async restart(more = {}) {
        await running.kill()
        running = await spawnGovernance({ ...env, ...more })
      },
      async query(sql, tenant) {
        const client = new pg.Client(adminUrl)
        await client.connect()
        try {
          await client.query("SELECT set_config('signet.tenant', $1, false)", [tenant])
          await client.query(sql)
        } finally {
          await client.end()
        }
      },
      async events(tenant, query = '') {
        const response = await fetch(
          `${real}/api/audit/logs?order=asc&limit=1000&producer_id=signet/governance${query}`,
          {
            headers: { authorization: `Bearer ${ledger.token('governance')}`, 'signet-tenant': tenant },
          },
        )
        const page = (await response.json()) as { items: { event: LoggedEvent; opened?: { event: LoggedEvent } }[] }
        return page.items.map(({ event, opened }) => opened?.event ?? event)
      },
      async stop() {
        await running.kill()
        await ledger.stop()
      },
    }
  } catch (error) {
    await ledger.stop()
    throw error
  }
}

async function spawnGovernance(env: Record<string, string | undefined>): Promise<GovernanceProcess> {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, '../../governance/main.ts')], {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  let output = ''
  const keep = (chunk: Buffer): void => {
    output = (output + chunk.toString()).slice(-64 * 1024)
  }
  child.stdout?.on('data', keep)
  child.stderr?.on('data', keep)
  const exited = once(child, 'exit')
  const url = await new Promise<string>((resolve, reject) => {
    child.once('message', (message: { listening: string }) => resolve(message.listening))
    child.once('error', reject)
    child.once('exit', (status) => reject(new Error(`governance ended with ${status} before it listened:\n${output}`)))
  })
  return {
    url,
    child,
    output: () => output,
    async kill() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
      await exited
    },
  }
}
