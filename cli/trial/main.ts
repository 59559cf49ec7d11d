import { randomBytes } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { readConfig } from '#runtime/config.ts'
import { startEmbeddedPostgres } from '#runtime/postgres/embedded.ts'
import { provisionDatabase } from '#runtime/postgres/provision.ts'
import { runProcess, type StartedProcess } from '#runtime/process/lifecycle.ts'
import { createLogger, type Logger } from '#runtime/telemetry/log.ts'
import { TRIAL_CONFIG } from './config.ts'
import { keepSecret } from './secret.ts'

const NAME = 'signet-postgres-trial'
/** Where Kubernetes puts a pod's own credentials. */
const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount'
const OWNER_ROLE = 'signet_owner'
const LEDGER_LOGIN = 'signet_ledger'
/** Governance's primary store is on the server of the ledger's work database: anywhere but on the wall's. */
const GOVERNANCE = 'signet_governance'
const RETRY_MS = 2_000

type Passwords = { readonly admin: string; readonly ledger: string; readonly governance: string }

await runProcess({ name: NAME, drainMs: 60_000, start })

/**
 * PostgreSQL for a trial in a cluster. Passwords are made at the first start and stay on its volume; the connection strings go into
 * a Secret of the namespace, where the ledger's pods take them from.
 */
async function start(signal: AbortSignal): Promise<StartedProcess> {
  const config = readConfig(TRIAL_CONFIG, process.env)
  const log = createLogger({ name: NAME, level: config.SIGNET_LOG_LEVEL })
  await mkdir(config.SIGNET_TRIAL_DATA_DIR, { recursive: true, mode: 0o700 })
  const passwords = await keepPasswords(path.join(config.SIGNET_TRIAL_DATA_DIR, 'passwords.json'))
  const server = await startEmbeddedPostgres({
    dataDir: path.join(config.SIGNET_TRIAL_DATA_DIR, 'postgres'),
    port: config.SIGNET_TRIAL_PORT,
    superuserPassword: passwords.admin,
    listen: '*',
    onLog: (line) => log.debug({ postgres: line }, 'postgres'),
  })
  try {
    const database = `signet_${config.SIGNET_TRIAL_STORE}`
    await provisionDatabase({
      adminUrl: server.url('postgres', 'postgres', passwords.admin),
      database,
      ownerRole: OWNER_ROLE,
      loginRole: LEDGER_LOGIN,
      loginPassword: passwords.ledger,
    })
    const at = (name: string, user: string, password: string): string =>
      `postgres://${user}:${password}@${config.SIGNET_TRIAL_HOST}:${config.SIGNET_TRIAL_PORT}/${name}`
    const values: Record<string, string> = {
      url: at(database, LEDGER_LOGIN, passwords.ledger),
      'owner-url': at(database, 'postgres', passwords.admin),
    }
    if (config.SIGNET_TRIAL_STORE === 'work') {
      await provisionDatabase({
        adminUrl: server.url('postgres', 'postgres', passwords.admin),
        database: GOVERNANCE,
        ownerRole: OWNER_ROLE,
        loginRole: GOVERNANCE,
        loginPassword: passwords.governance,
      })
      values['governance-url'] = at(GOVERNANCE, GOVERNANCE, passwords.governance)
      values['governance-owner-url'] = at(GOVERNANCE, 'postgres', passwords.admin)
    }
    const host = config.KUBERNETES_SERVICE_HOST
    const api = `https://${host.includes(':') ? `[${host}]` : host}:${config.KUBERNETES_SERVICE_PORT}`
    await untilKept({ api, secret: config.SIGNET_TRIAL_SECRET, values }, log, signal)
    log.info({ store: config.SIGNET_TRIAL_STORE, secret: config.SIGNET_TRIAL_SECRET }, 'trial database is ready')
  } catch (error) {
    await server.stop()
    throw error
  }
  return { log, stop: () => server.stop() }
}

type Announcement = { readonly api: string; readonly secret: string; readonly values: Record<string, string> }

/** Until it is there: the API server may be away, or the role binding not made yet. */
async function untilKept({ api, secret, values }: Announcement, log: Logger, signal: AbortSignal): Promise<void> {
  for (;;) {
    try {
      // Read anew for each try: the kubelet renews the token.
      const [namespace, token, ca] = await Promise.all(['namespace', 'token', 'ca.crt'].map(readOwn))
      const access = { url: api, token: (token ?? '').trim(), ca: ca ?? '' }
      await keepSecret(access, { namespace: (namespace ?? '').trim(), name: secret, values })
      return
    } catch (error) {
      if (signal.aborted) throw error
      log.warn({ error }, 'the Secret cannot be written yet')
      await sleep(RETRY_MS, undefined, { signal })
    }
  }
}

function readOwn(file: string): Promise<string> {
  return readFile(path.join(SERVICE_ACCOUNT, file), 'utf8')
}

/** URL-safe, so that a connection string needs no escaping. */
async function keepPasswords(file: string): Promise<Passwords> {
  let kept: Partial<Passwords> = {}
  try {
    kept = JSON.parse(await readFile(file, 'utf8')) as Partial<Passwords>
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  const password = (): string => randomBytes(24).toString('base64url')
  const { admin = password(), ledger = password(), governance = password() } = kept
  const made = { admin, ledger, governance }
  if (kept.governance !== undefined) return made
  // Whole or not at all: an interrupted first start leaves no half password.
  await writeFile(`${file}.new`, JSON.stringify(made), { mode: 0o600 })
  await rename(`${file}.new`, file)
  return made
}
