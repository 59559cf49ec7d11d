import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { startEmbeddedPostgres, type EmbeddedPostgres } from '#runtime/postgres/embedded.ts'
import { provisionDatabase } from '#runtime/postgres/provision.ts'
import type { Endpoints, StateFolder } from '../state.ts'
import { awaitReady, startChild, type Child } from './child.ts'
import type { UpConfig } from './config.ts'
import { ensureCredentials, type Credentials } from './credentials.ts'
import { startGovernance } from './governance.ts'
import { locateOpa } from './opa.ts'
import { ensurePolicyData } from './policy.ts'
import { claimPorts, isListening } from './ports.ts'

export type Stack = {
  readonly endpoints: Endpoints
  readonly upstream: string
  readonly policyData: string
  readonly bundleUrl: string
  /** Resolves when one of the processes ends by itself, with why. */
  readonly broken: Promise<string>
  /** In order: proxy (it drains and empties its spool), demo, governance, ledger, databases. */
  stop(): Promise<void>
}

export type StackOptions = {
  readonly config: UpConfig
  readonly env: Readonly<Record<string, string | undefined>>
  readonly state: StateFolder
  readonly say: (line: string) => void
  readonly signal: AbortSignal
}

const LEDGER_LOGIN = 'signet_ledger'
const OWNER_ROLE = 'signet_owner'
/** Of this command alone: passed on, they would only be unknown there. */
const OWN_VARIABLES = /^SIGNET_(UPSTREAM|STATE_DIR|HOST|(EXTERNAL|INTERNAL|ADMIN|LEDGER|GOVERNANCE|DEMO)_PORT)$/

/** Starts everything, in order; what had started is stopped again when a later part does not. @throws SignetError */
export async function startStack(options: StackOptions): Promise<Stack> {
  const stops: (() => Promise<void>)[] = []
  let stopping: Promise<void> | undefined
  const stop = (): Promise<void> => {
    stopping ??= (async () => {
      for (const one of stops.toReversed()) await one()
    })()
    return stopping
  }
  try {
    return await start(options, stops, stop)
  } catch (error) {
    await stop()
    throw error
  }
}

async function start(options: StackOptions, stops: (() => Promise<void>)[], stop: () => Promise<void>): Promise<Stack> {
  const { config, state, say, signal } = options
  const own = config.SIGNET_UPSTREAM
  const tenant = config.SIGNET_TENANT
  const producerId = config.SIGNET_PRODUCER_ID ?? (own === undefined ? 'demo/service' : 'local/service')
  const names = ['external', 'internal', 'admin', 'ledger', 'governance'] as const
  const ports = await claimPorts(config, own === undefined ? [...names, 'demo'] : names)
  const at = (port: number): string => `${config.SIGNET_HOST}:${port}`
  const endpoints: Endpoints = {
    external: `http://${at(ports.external)}`,
    internal: `http://${at(ports.internal)}`,
    admin: `http://${at(ports.admin)}`,
    ledger: `http://${at(ports.ledger)}`,
    governance: `http://${at(ports.governance)}`,
    tenant,
  }
  const upstream = own ?? `http://${at(ports.demo)}`

  const credentials = await ensureCredentials(state, tenant, producerId, new Date())
  const policyData = own === undefined ? state.policyData : path.join(state.folder, 'policy-data-upstream.json')
  await ensurePolicyData(policyData, own === undefined ? 'demo' : 'own', new Date())
  const run = (name: string, script: string, env: Record<string, string>, args: string[] = []): Child =>
    startChild({ name, script, args, env: { ...inherited(options.env, name), ...env }, logs: state.logs })
  const children: Child[] = []
  const started = (child: Child): Child => {
    children.push(child)
    stops.push(() => child.stop())
    return child
  }

  say('starting PostgreSQL (the audit wall and the work database)')
  const databases = await startDatabases(state, credentials, stops)
  signal.throwIfAborted()

  const wallUrl = (user: string, password: string): string => databases.wall.url('signet_wall', user, password)
  const workUrl = (user: string, password: string): string => databases.work.url('signet_work', user, password)
  const { admin, ledger: ledgerPassword } = credentials.passwords
  const migration = run(
    'ledger-migration',
    'ledger/main.ts',
    {
      SIGNET_LEDGER_AUDIT_DB_OWNER_URL: wallUrl('postgres', admin),
      SIGNET_LEDGER_STATE_OWNER_URL: workUrl('postgres', admin),
    },
    ['migrate'],
  )
  const ended = await migration.exited
  if (!ended.includes('(exit 0)')) throw new Error(ended)

  say('starting the ledger')
  const ledger = started(
    run('ledger', 'ledger/main.ts', {
      SIGNET_LEDGER_LISTEN: at(ports.ledger),
      SIGNET_LEDGER_AUDIT_DB_URL: wallUrl(LEDGER_LOGIN, ledgerPassword),
      SIGNET_LEDGER_STATE_URL: workUrl(LEDGER_LOGIN, ledgerPassword),
      SIGNET_LEDGER_KEYRING: state.ledgerKeyring,
      SIGNET_LEDGER_TOKENS: state.tokenFile,
      SIGNET_LEDGER_WALL_LOG: path.join(databases.wall.dataDir, 'data/log'),
      SIGNET_LEDGER_PLATFORM_TENANT: config.SIGNET_TENANT,
    }),
  )
  await awaitReady(ledger, `${endpoints.ledger}/readyz`, signal)

  say('starting governance')
  const bundleUrl = `${endpoints.governance}/bundles/policies.tar.gz`
  await startGovernance({
    state,
    server: databases.work,
    adminPassword: admin,
    password: credentials.passwords.governance,
    tenant,
    url: endpoints.governance,
    listen: at(ports.governance),
    ledgerUrl: endpoints.ledger,
    opa: await locateOpa(options.env),
    run: (name, env, args = []) => {
      const child = run(name, 'governance/main.ts', env, args)
      return args.length === 0 ? started(child) : child
    },
    signal,
  })

  if (own === undefined) {
    say('starting the demo service')
    const demo = started(run('demo', 'cli/demo/main.ts', { SIGNET_DEMO_LISTEN: at(ports.demo) }))
    await awaitReady(demo, `${upstream}/`, signal)
  } else if (!(await isListening(new URL(own)))) {
    say(`warning: nothing listens at ${own}; requests get a 502 problem until something does`)
  }

  say('starting the proxy')
  const proxy = started(
    run('proxy', 'proxy/main.ts', {
      SIGNET_UPSTREAM: upstream,
      SIGNET_EXTERNAL_LISTEN: at(ports.external),
      SIGNET_INTERNAL_LISTEN: at(ports.internal),
      SIGNET_ADMIN_LISTEN: at(ports.admin),
      SIGNET_TENANT: tenant,
      SIGNET_PRODUCER_ID: producerId,
      SIGNET_KEYRING: state.keyring,
      SIGNET_LEDGER_URL: endpoints.ledger,
      SIGNET_LEDGER_TOKEN_FILE: state.proxyToken,
      // One folder a producer: events that still wait there can be delivered by their own producer only.
      SIGNET_SPOOL_DIR: path.join(state.spool, encodeURIComponent(`${tenant}:${producerId}`)),
      SIGNET_BUNDLE: bundleUrl,
      SIGNET_BUNDLE_TOKEN_FILE: state.bundleToken,
      SIGNET_BUNDLE_TRUST: state.bundleTrust,
      SIGNET_POLICY_DATA: policyData,
      // What is not sent stays in the spool for the next start; nobody should wait for it, nor find the ports taken.
      SIGNET_DRAIN_MS: '5000',
    }),
  )
  await awaitReady(proxy, `${endpoints.admin}/readyz`, signal)
  await writeFile(state.endpoints, `${JSON.stringify(endpoints, null, 2)}\n`)

  return {
    endpoints,
    upstream,
    policyData,
    bundleUrl,
    broken: Promise.race(children.map((child) => child.exited)),
    stop,
  }
}

async function startDatabases(
  state: StateFolder,
  { passwords }: Credentials,
  stops: (() => Promise<void>)[],
): Promise<{ wall: EmbeddedPostgres; work: EmbeddedPostgres }> {
  await mkdir(path.dirname(state.wall), { recursive: true, mode: 0o711 })
  const one = async (dataDir: string, database: string): Promise<EmbeddedPostgres> => {
    const jsonLog = database === 'signet_wall'
    const server = await startEmbeddedPostgres({ dataDir, superuserPassword: passwords.admin, jsonLog })
    stops.push(() => server.stop())
    await provisionDatabase({
      adminUrl: server.url('postgres', 'postgres', passwords.admin),
      database,
      ownerRole: OWNER_ROLE,
      loginRole: LEDGER_LOGIN,
      loginPassword: passwords.ledger,
    })
    return server
  }
  const [wall, work] = await Promise.allSettled([one(state.wall, 'signet_wall'), one(state.work, 'signet_work')])
  if (wall.status === 'rejected') throw wall.reason
  if (work.status === 'rejected') throw work.reason
  return { wall: wall.value, work: work.value }
}

/** The environment of this command, less what is its own or another process's: it would only be reported as unknown. */
function inherited(env: StackOptions['env'], name: string): Record<string, string> {
  const wanted = (variable: string): boolean => {
    if (!variable.startsWith('SIGNET_')) return true
    if (OWN_VARIABLES.test(variable) || name === 'demo') return false
    if (variable === 'SIGNET_LOG_LEVEL') return true
    if (/^SIGNET_(GOVERNANCE|DATABASE|NEW)_/.test(variable)) return name.startsWith('governance')
    if (name.startsWith('governance')) return false
    return variable.startsWith('SIGNET_LEDGER_') === name.startsWith('ledger')
  }
  return Object.fromEntries(
    Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined && wanted(entry[0])),
  )
}
