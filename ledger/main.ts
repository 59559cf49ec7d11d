import { randomBytes, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Server as TlsServer } from 'node:tls'
import { listenError } from '#runtime/http/listen.ts'
import { createKubernetesApi, type KubernetesApi } from '#runtime/kubernetes/api.ts'
import { kubernetesApiOptions } from '#runtime/kubernetes/variables.ts'
import { createPool, query, unavailable } from '#runtime/postgres/transaction.ts'
import { followFile } from '#runtime/process/followed-file.ts'
import { runProcess, type StartedProcess } from '#runtime/process/lifecycle.ts'
import { createLogger, type Logger } from '#runtime/telemetry/log.ts'
import { createMetricsRegistry } from '#runtime/telemetry/metrics.ts'
import { createReloadingHttpsOptions } from '#runtime/tls/reloading.ts'
import { startArchive } from './archive/start.ts'
import { buildApp, type LedgerApp } from './app.ts'
import { buildAuthenticator } from './authenticator.ts'
import { readInitKeysConfig, readLedgerConfig, readMigrateConfig, type LedgerConfig } from './config.ts'
import { readConfigFile } from './config-file.ts'
import type { NoticeEntry, Producer } from './entry.ts'
import { followClusterKeys, obtainClusterKeys, writeKeyringFile, type KeysSecret } from './identity/cluster-keys.ts'
import { replaceableKeys } from './keys.ts'
import { startKafka } from './kafka/start.ts'
import { startRevocation } from './revocation/start.ts'
import { keepRevocationsRecorded } from './revocation/upkeep.ts'
import { startRetention } from './retention/ledger-retention.ts'
import { migrateWall, migrateWork } from './store/migrations.ts'
import { createExportMetrics } from './export/metrics.ts'
import { keepExporting } from './export/worker.ts'
import { createMailer } from './mail/mailer.ts'
import { createTimestamp } from './timestamp/authority.ts'
import { keepErasing, startSealing } from './seal/start.ts'
import { Integrator } from './tree/integrator.ts'
import { keepIntegrating } from './tree/upkeep.ts'
import { keepVerifying } from './verifier/upkeep.ts'
import { watchWallLog } from './wall-log/watch.ts'

const NAME = 'signet-ledger'
const FILE_POLL_MS = 1_000
const SECRET_POLL_MS = 30_000
const API_PATIENCE_MS = 60_000
const KEYS_SECRET_NAME = 'signet-ledger-keys'
const NAMESPACE_FILE = '/var/run/secrets/kubernetes.io/serviceaccount/namespace'
const UPKEEP_EVERY_MS = 6 * 60 * 60 * 1000
const UPKEEP_RETRY_MS = 2_000
const IDLE_CLOSE_MS = 100

async function start(signal: AbortSignal): Promise<StartedProcess> {
  const config = readLedgerConfig()
  const log = createLogger({ name: NAME, level: config.SIGNET_LOG_LEVEL })
  const stopping = new AbortController()
  const keyringText = await readConfigFile('SIGNET_LEDGER_KEYRING', config.SIGNET_LEDGER_KEYRING)
  const keys = replaceableKeys(keyringText)
  const { authenticator, denyList, kubernetes } = await buildAuthenticator(config, { log, signal: stopping.signal })
  followKeys(config, keyringText, keys, { log, signal: stopping.signal, kubernetes })
  const tls =
    config.tls === null
      ? null
      : createReloadingHttpsOptions({
          ...config.tls,
          signal: stopping.signal,
          onReload: () => log.info('the certificate of the listener was re-read'),
          onError: (error) => log.error({ error }, 'certificate and key changed and cannot be used; the former stay'),
        })
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
    size: 4,
    applicationName: NAME,
    statementTimeoutMs: 5_000,
    onIdleError,
  })
  const registry = createMetricsRegistry()
  const clock = (): Date => new Date()
  const origin = config.SIGNET_LEDGER_ORIGIN
  const retention = startRetention(config, { wall, work, clock, registry, log, signal: stopping.signal })
  const sealing = await startSealing(config, { wall, work, keys, clock, log, signal: stopping.signal })
  const archive = startArchive(config, { wall, work, keys, origin, clock, log, registry })
  const revoked = startRevocation({
    url: config.SIGNET_LEDGER_STATE_URL,
    applicationName: NAME,
    clock,
    onIdleError,
  })
  const app = buildApp({
    archive: () => archive,
    wall,
    retention: retention.parts,
    work,
    keys,
    authenticator: revoked.guard(authenticator),
    onRevocation: revoked.forget,
    denyList: {
      deniesStampsOf: async (producer) => denyList.deniesStampsOf(producer) || revoked.isRevoked(producer),
    },
    registry,
    log,
    clock,
    origin,
    trustDomain: config.SIGNET_TRUST_DOMAIN,
    ...(config.mail === null ? {} : { mailDomains: config.mail.domains }),
    residency: sealing.residency,
    ...(sealing.sealer === null ? {} : { sealer: sealing.sealer }),
    ...(tls === null ? {} : { tls: tls.https }),
  })
  const recordRefusal = (producer: Producer, notice: NoticeEntry): void => {
    log.warn({ ...producer, context: notice.context }, 'a producer that is shut out was refused')
    app.sequencer
      .append({ producer, entries: [notice] })
      .catch((error: unknown) => log.error({ error, ...producer }, 'a refusal is not recorded'))
  }
  denyList.onRefused(recordRefusal)
  revoked.onRefused(recordRefusal)
  tls?.follow(app.http.server as unknown as TlsServer)

  const integrator = new Integrator({ wall, origin, signingKey: (at) => keys.ackKey(at).privateKey, clock })
  const tree = keepIntegrating(integrator, { log, registry })
  const { mail } = config
  const mailer = mail === null ? null : createMailer(mail.url, mail.from)
  const exports = keepExporting({
    wall,
    work,
    keys,
    origin,
    personal: app.personal,
    sequencer: app.sequencer,
    log,
    clock,
    timestamp: config.SIGNET_LEDGER_TSA_URL === undefined ? null : createTimestamp(config.SIGNET_LEDGER_TSA_URL),
    tell: mail === null || mailer === null ? null : { send: mailer.send, publicUrl: mail.publicUrl },
    metrics: createExportMetrics(registry),
  })
  const sharePercent = config.SIGNET_LEDGER_VERIFY_SHARE
  const verifying =
    sharePercent === 0
      ? null
      : keepVerifying({
          wall,
          work,
          keys,
          origin,
          ...(archive === null ? {} : { archived: () => archive.archived.read() }),
          clock,
          holder: randomUUID(),
          log,
          registry,
          sharePercent,
        })
  const duty = retention.begin({ keys, sequencer: app.sequencer })
  const erasing = keepErasing({ sealer: sealing.sealer, erasures: app.erasures }, { log, registry })
  const revoking = keepRevocationsRecorded(app.revocations, log)
  const kafka = await startKafka(config, {
    wall,
    work,
    keys,
    origin,
    clock,
    holder: randomUUID(),
    sequencer: app.sequencer,
    isRevoked: revoked.isRevoked,
    log,
    registry,
  })
  const wallLog = watchingWall(config, { work, sequencer: app.sequencer, log, registry })
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
      stopping.abort()
      await closeListener(app.http)
      await kafka.stop()
      await exports.stop()
      mailer?.close()
      await duty.stop()
      await erasing.stop()
      await revoking.stop()
      await wallLog?.stop()
      await app.idle()
      await tree.stop()
      await verifying?.stop()
      await archive?.stop()
      await retention.close()
      await Promise.all([wall.end(), work.end(), revoked.close(), kubernetes?.close()])
    },
  }
}

function watchingWall(
  config: LedgerConfig,
  parts: Omit<Parameters<typeof watchWallLog>[0], 'dir' | 'tenant' | 'watched'>,
): ReturnType<typeof watchWallLog> | null {
  const { SIGNET_LEDGER_WALL_LOG: dir, SIGNET_LEDGER_PLATFORM_TENANT: tenant } = config
  if (dir === undefined) return null
  const { pathname, username } = new URL(config.SIGNET_LEDGER_AUDIT_DB_URL)
  const watched = { database: decodeURIComponent(pathname.slice(1)), login: decodeURIComponent(username) }
  return watchWallLog({ ...parts, dir, tenant, watched })
}

/** Takes nothing new and finishes what is under way. A connection that was busy when this began would be kept for its client's next request. */
async function closeListener(http: LedgerApp['http']): Promise<void> {
  const idle = setInterval(() => http.server.closeIdleConnections(), IDLE_CLOSE_MS)
  await http.close().finally(() => clearInterval(idle))
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

/** Takes the keyring file over when it changes; in a cluster the file follows the Secret. */
function followKeys(
  config: LedgerConfig,
  text: string,
  keys: ReturnType<typeof replaceableKeys>,
  { log, signal, kubernetes }: { log: Logger; signal: AbortSignal; kubernetes: KubernetesApi | null },
): void {
  const path = config.SIGNET_LEDGER_KEYRING
  followFile({
    path,
    text,
    pollMs: FILE_POLL_MS,
    signal,
    apply(changed) {
      keys.replace(changed)
      log.info('keyring re-read')
    },
    onError: (error) => log.error({ error }, 'the keyring changed and cannot be used; the former keys stay'),
  })
  const secret = config.SIGNET_LEDGER_KEYS_SECRET
  if (secret === undefined) return
  const api = kubernetes ?? createKubernetesApi(kubernetesApiOptions(config))
  void followClusterKeys({ api, secret: secretOf(secret), log }, { path, text }, { everyMs: SECRET_POLL_MS, signal })
}

function secretOf(name: string): KeysSecret {
  const [namespace = '', secret = ''] = name.split('/')
  return { namespace, name: secret }
}

/** For an init container: the keys of the cluster's ledger are there afterwards, and the file for the ledger to read. */
async function initKeysAndLeave(): Promise<StartedProcess> {
  const config = readInitKeysConfig()
  const log = createLogger({ name: NAME, level: config.SIGNET_LOG_LEVEL })
  const options = kubernetesApiOptions(config)
  const named = config.SIGNET_LEDGER_KEYS_SECRET
  const secret =
    named === undefined
      ? { namespace: (await readConfigFile('the namespace file', NAMESPACE_FILE)).trim(), name: KEYS_SECRET_NAME }
      : secretOf(named)
  const api = createKubernetesApi(options)
  const text = await obtainClusterKeys({ api, secret, log, randomBytes, clock: () => new Date() }, API_PATIENCE_MS)
  await writeKeyringFile(config.SIGNET_LEDGER_KEYRING, text)
  log.info({ ...secret }, 'the keyring is in its place')
  await api.close()
  process.exit(0)
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
else if (command === 'init-keys') await runProcess({ name: NAME, start: initKeysAndLeave })
else {
  process.stderr.write(`${NAME}: ${JSON.stringify(command)} is no command; allowed: none (serve), migrate, init-keys\n`)
  process.exit(64)
}
