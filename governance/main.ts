import { readFile, writeFile } from 'node:fs/promises'
import type { Server as TlsServer } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { createAuditClient } from '#runtime/ledger/audit-client.ts'
import { listenError } from '#runtime/http/listen.ts'
import { uuidV7 } from '#runtime/identifier.ts'
import { createPool } from '#runtime/postgres/transaction.ts'
import { runProcess, type StartedProcess } from '#runtime/process/lifecycle.ts'
import { createLogger } from '#runtime/telemetry/log.ts'
import { createMetricsRegistry } from '#runtime/telemetry/metrics.ts'
import { keepSweeping } from './actions/upkeep.ts'
import { ensureTenant, makeBundleToken, seedAllRoles } from './access/tenants.ts'
import { buildApp } from './app.ts'
import { readCreateTenantConfig, readGovernanceConfig, readGovernanceMigrateConfig } from './config.ts'
import { readCatalogs } from './frameworks/catalog.ts'
import { createGovernanceMetrics } from './metrics.ts'
import { readRulesFolder } from './rules/folder.ts'
import { seedFileRules } from './rules/seed.ts'
import { createServices } from './services.ts'
import { migrateGovernance } from './store/migrations.ts'
import { tenantNames } from './store/tenants.ts'
import { ledgerAuthority, listenerTls } from './tls.ts'

const NAME = 'signet-governance'
const CATALOGS = fileURLToPath(new URL('../policies/catalogs', import.meta.url))
const PACKS = fileURLToPath(new URL('../policies/packs', import.meta.url))
const clock = (): Date => new Date()

async function start(): Promise<StartedProcess> {
  const config = readGovernanceConfig()
  const log = createLogger({ name: NAME, level: config.SIGNET_LOG_LEVEL })
  const stopping = new AbortController()
  const tls = listenerTls(config, { log, signal: stopping.signal })
  const registry = createMetricsRegistry()
  const metrics = createGovernanceMetrics(registry)
  const pool = createPool({
    url: config.SIGNET_DATABASE_URL,
    size: config.SIGNET_DATABASE_POOL_SIZE,
    applicationName: NAME,
    statementTimeoutMs: 10_000,
    onIdleError: (error) => log.warn({ error }, 'a database connection broke'),
  })
  const audit = createAuditClient({
    url: config.SIGNET_GOVERNANCE_LEDGER_URL,
    tokenFile: config.SIGNET_GOVERNANCE_LEDGER_TOKEN_FILE,
    ca: await ledgerAuthority(config.SIGNET_GOVERNANCE_LEDGER_CA, { log, signal: stopping.signal }),
  })
  const record = (tenant: string, event: string): Promise<void> => audit.record(event, tenant)
  const names = await tenantNames(pool)
  await seedAllRoles(pool, names, { newId: uuidV7, clock })
  await seedFileRules(pool, names, await readRulesFolder(config.SIGNET_GOVERNANCE_RULES_DIR ?? PACKS), log)
  const ledger = {
    url: config.SIGNET_GOVERNANCE_LEDGER_URL,
    read: (path: string, tenant: string): Promise<unknown> => audit.read(path, tenant),
  }
  const catalogs = await readCatalogs(CATALOGS)
  const services = await createServices(config, { pool, record, ledger, catalogs, metrics, log, clock })
  const app = await buildApp({
    pool,
    services,
    ledger,
    catalogs,
    registry,
    metrics,
    log,
    clock,
    ...(tls === null ? {} : { tls: tls.https }),
  })
  tls?.follow(app.server as unknown as TlsServer)
  await app.listen(config.listen).catch((error: NodeJS.ErrnoException) => {
    throw listenError(error, config.listen, { what: 'governance', variable: 'SIGNET_GOVERNANCE_LISTEN' })
  })
  const afterMs = config.SIGNET_GOVERNANCE_SWEEP_AFTER_MS
  const sweeping = keepSweeping({ pool, record, nowMs: Date.now, afterMs }, { log, metrics })
  log.info({ listen: app.listeningOrigin }, 'governance listens')
  process.send?.({ listening: app.listeningOrigin })
  return {
    log,
    async stop() {
      stopping.abort()
      await app.close()
      await services.stop()
      await sweeping.stop()
      await audit.close()
      await pool.end()
    },
  }
}

async function migrateAndLeave(): Promise<StartedProcess> {
  const config = readGovernanceMigrateConfig()
  const log = createLogger({ name: NAME, level: config.SIGNET_LOG_LEVEL })
  const ran = await migrateGovernance(config.SIGNET_DATABASE_OWNER_URL, (line) =>
    log.debug({ migration: line }, 'migrating'),
  )
  log.info({ ran }, 'the database is up to date')
  process.exit(0)
}

async function createTenantAndLeave(): Promise<StartedProcess> {
  const config = readCreateTenantConfig()
  const log = createLogger({ name: NAME, level: config.SIGNET_LOG_LEVEL })
  const { SIGNET_NEW_TENANT: tenant, SIGNET_NEW_TENANT_ADMIN_EMAIL: email } = config
  const passwordFile = config.SIGNET_NEW_TENANT_ADMIN_PASSWORD_FILE
  const password = passwordFile === undefined ? null : (await readFile(passwordFile, 'utf8')).replace(/\r?\n$/, '')
  const made = { tenant, name: config.SIGNET_NEW_TENANT_NAME ?? tenant, admin: { email, name: email, password } }
  const token = await ensureTenant(config.SIGNET_DATABASE_OWNER_URL, made, { newId: uuidV7, clock })
  const pool = createPool({ url: config.SIGNET_DATABASE_OWNER_URL, size: 2, applicationName: NAME })
  await seedFileRules(pool, [tenant], await readRulesFolder(config.SIGNET_GOVERNANCE_RULES_DIR ?? PACKS), log)
  const bundleTokenFile = config.SIGNET_NEW_TENANT_BUNDLE_TOKEN_FILE
  if (bundleTokenFile !== undefined) {
    const bundleToken = await makeBundleToken(pool, tenant, { newId: uuidV7, clock })
    await writeFile(bundleTokenFile, `${bundleToken}\n`, { mode: 0o600 })
  }
  await pool.end()
  if (token !== null) await writeFile(config.SIGNET_NEW_TENANT_TOKEN_FILE, `${token}\n`, { mode: 0o600 })
  log.info({ tenant, made: token !== null }, token === null ? 'the tenant was there already' : 'the tenant is there')
  process.exit(0)
}

const [command] = process.argv.slice(2)
if (command === undefined) await runProcess({ name: NAME, start })
else if (command === 'migrate') await runProcess({ name: NAME, start: migrateAndLeave })
else if (command === 'create-tenant') await runProcess({ name: NAME, start: createTenantAndLeave })
else {
  process.stderr.write(
    `${NAME}: ${JSON.stringify(command)} is no command; allowed: none (serve), migrate, create-tenant\n`,
  )
  process.exit(64)
}
