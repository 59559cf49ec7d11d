import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { SignetError } from '#core/error/signet-error.ts'
import { listenError } from '#runtime/http/listen.ts'
import { createTokenAuthenticator, parseTokenFile } from '#runtime/identity/token.ts'
import { createPool, query, unavailable } from '#runtime/postgres/transaction.ts'
import { runProcess, type StartedProcess } from '#runtime/process/lifecycle.ts'
import { createLogger, type Logger } from '#runtime/telemetry/log.ts'
import { createMetricsRegistry } from '#runtime/telemetry/metrics.ts'
import { buildApp } from './app.ts'
import { readLedgerConfig, readMigrateConfig, type LedgerConfig } from './config.ts'
import { ledgerKeys } from './keys.ts'
import { migrateWall, migrateWork } from './store/migrations.ts'

const NAME = 'signet-ledger'
const UPKEEP_EVERY_MS = 6 * 60 * 60 * 1000
const UPKEEP_RETRY_MS = 2_000

async function start(signal: AbortSignal): Promise<StartedProcess> {
  const config = readLedgerConfig()
  const log = createLogger({ name: NAME, level: config.SIGNET_LOG_LEVEL })
  const keys = ledgerKeys(await readConfigFile('SIGNET_LEDGER_KEYRING', config.SIGNET_LEDGER_KEYRING))
  const tokens = await readConfigFile('SIGNET_LEDGER_TOKENS', config.SIGNET_LEDGER_TOKENS)
  const authenticator = createTokenAuthenticator(parseTokenFile(tokens, config.SIGNET_LEDGER_TOKENS))
  await migrateWhereAsked(config, log, signal)

  const onIdleError = (error: Error): void => log.warn({ error }, 'a database connection broke')
  const wall = createPool({
    url: config.SIGNET_LEDGER_AUDIT_DB_URL,
    size: config.SIGNET_LEDGER_AUDIT_DB_POOL_SIZE,
    applicationName: NAME,
    onIdleError,
  })
  const work = createPool({
    url: config.SIGNET_LEDGER_STATE_URL,
    size: 2,
    applicationName: NAME,
    statementTimeoutMs: 5_000,
    onIdleError,
  })
  const app = buildApp({
    wall,
    work,
    keys,
    authenticator,
    registry: createMetricsRegistry(),
    log,
    clock: () => new Date(),
  })

  const stopUpkeep = keepUp(async () => {
    const [made] = await query<{ made: number }>(wall, 'SELECT signet.ensure_partitions() AS made')
    const moved = await app.sessions.reconcile()
    log.info({ partitions_made: made?.made, cursors_moved: moved }, 'partitions and session cursors are up to date')
  }, log)
  await app.http.listen(config.listen).catch((error: NodeJS.ErrnoException) => {
    throw listenError(error, config.listen, { what: 'ledger', variable: 'SIGNET_LEDGER_LISTEN' })
  })
  log.info({ listen: app.http.listeningOrigin }, 'ledger listens')
  process.send?.({ listening: app.http.listeningOrigin })

  return {
    log,
    async stop() {
      stopUpkeep()
      await app.http.close()
      await app.idle()
      await Promise.all([wall.end(), work.end()])
    },
  }
}

async function migrateWhereAsked(config: LedgerConfig, log: Logger, signal: AbortSignal): Promise<void> {
  const onLog = (line: string): void => log.debug({ migration: line }, 'migrating')
  const { SIGNET_LEDGER_AUDIT_DB_OWNER_URL: wallUrl, SIGNET_LEDGER_STATE_OWNER_URL: workUrl } = config
  if (wallUrl !== undefined) await whenAvailable(() => migrateWall(wallUrl, onLog), log, signal)
  if (workUrl !== undefined) await whenAvailable(() => migrateWork(workUrl, onLog), log, signal)
}

/** Waits for a database that does not answer yet, until told to stop. */
async function whenAvailable<T>(work: () => Promise<T>, log: Logger, signal: AbortSignal): Promise<T> {
  for (;;) {
    try {
      return await work()
    } catch (error) {
      if (unavailable(error) === null || signal.aborted) throw error
      log.warn({ error }, 'waiting for the database')
      await sleep(1_000, undefined, { signal })
    }
  }
}

/** Runs upkeep now and every few hours, soon again after a failure. */
function keepUp(work: () => Promise<void>, log: Logger): () => void {
  let timer: NodeJS.Timeout | undefined
  let stopped = false
  const again = (ms: number): void => {
    if (!stopped) timer = setTimeout(run, ms).unref()
  }
  const run = (): void => {
    work().then(
      () => again(UPKEEP_EVERY_MS),
      (error: unknown) => {
        log.warn({ error }, 'upkeep has to wait')
        again(UPKEEP_RETRY_MS)
      },
    )
  }
  run()
  return () => {
    stopped = true
    clearTimeout(timer)
  }
}

async function readConfigFile(variable: string, path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unreadable'
    throw new SignetError(
      'CONFIG_INVALID',
      `${variable} is ${JSON.stringify(path)}, which cannot be read (${reason})`,
      { cause },
    )
  }
}

async function migrateAndLeave(): Promise<StartedProcess> {
  const config = readMigrateConfig()
  const log = createLogger({ name: NAME, level: config.SIGNET_LOG_LEVEL })
  const onLog = (line: string): void => log.debug({ migration: line }, 'migrating')
  const wall = await migrateWall(config.SIGNET_LEDGER_AUDIT_DB_OWNER_URL, onLog)
  const work = await migrateWork(config.SIGNET_LEDGER_STATE_OWNER_URL, onLog)
  log.info({ wall, work }, 'databases are up to date')
  process.exit(0)
}

const [command] = process.argv.slice(2)
if (command === undefined) await runProcess({ name: NAME, start })
else if (command === 'migrate') await runProcess({ name: NAME, start: migrateAndLeave })
else {
  process.stderr.write(`${NAME}: ${JSON.stringify(command)} is no command; allowed: none (serve), migrate\n`)
  process.exit(64)
}
