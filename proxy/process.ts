import type { FastifyInstance } from 'fastify'
import { Pool } from 'undici'
import type { Channel } from '#core/stamp/schema.ts'
import { unknownVariables } from '#runtime/config.ts'
import { listen, parseListenAddress } from '#runtime/http/listen.ts'
import { uuidV7 } from '#runtime/identifier.ts'
import type { StartedProcess } from '#runtime/process/lifecycle.ts'
import { createLogger } from '#runtime/telemetry/log.ts'
import { createMetricsRegistry } from '#runtime/telemetry/metrics.ts'
import { createTracing } from '#runtime/telemetry/tracing.ts'
import { buildAdminApp } from './admin.ts'
import { buildApp } from './app.ts'
import { openJournal } from './audit/journal.ts'
import { createLedgerClient } from './audit/ledger-client.ts'
import { encodeContent } from './coding/encode.ts'
import { Lanes } from './coding/lanes.ts'
import { ProxyEnvironment, type ProxyConfig } from './config.ts'
import { StampIssuer } from './egress/issuer.ts'
import { DecisionRecorder } from './egress/recorder.ts'
import { EgressValidator } from './egress/validator.ts'
import { Budget } from './exchange/budget.ts'
import { Turn } from './exchange/turn.ts'
import { parsePeers } from './http/caller.ts'
import { createRequestTracing } from './http/request-tracing.ts'
import { startKeySource } from './identity/key-source.ts'
import { beginAtZero, createProxyMetrics } from './metrics.ts'
import { followBundle, isRemoteTrust } from './policy/bundle-follower.ts'
import { PolicyHolder } from './policy/holder.ts'
import { openSequenceFloor } from './policy/sequence-floor.ts'
import { readRequired } from './required-file.ts'
import { parseAppProbes } from './probes.ts'
import { boundedArchive } from './stamps/archive.ts'
import { createStampVerifier } from './stamps/foreign.ts'
import { StampStore } from './stamps/store.ts'
import { watchFile } from './watched-file.ts'

const FILE_POLL_MS = 1_000
/** Of the four threads of the pool, one is left to the audit spool. */
const CODERS = 3
const SOFTWARE_VERSION = '0.1.0'

/**
 * Builds and starts the proxy: key, spool and listeners first, the bundle as soon as it can be had (`/readyz` says what is
 * missing; requests get 503 until then). `stop` drains: readiness falls, requests finish, the spool is flushed.
 */
export async function startProxy(
  config: ProxyConfig,
  env: Readonly<Record<string, string | undefined>> = {},
): Promise<StartedProcess> {
  const log = createLogger({ name: 'signet-proxy', level: config.SIGNET_LOG_LEVEL })
  for (const name of unknownVariables([ProxyEnvironment], env))
    log.warn({ variable: name }, 'unknown variable; is it misspelt?')
  const registry = createMetricsRegistry()
  const budget = new Budget({
    maxInFlight: config.SIGNET_MAX_IN_FLIGHT,
    maxBufferedBytes: config.SIGNET_BUFFER_TOTAL_BYTES,
  })
  const metrics = createProxyMetrics(registry, {
    inFlight: () => budget.inFlight,
    bufferedBytes: () => budget.bufferedBytes,
  })
  beginAtZero(metrics, config.SIGNET_TENANT)
  const nowMs = Date.now

  const monotonicMs = (): number => performance.now()
  const stopping = new AbortController()
  let draining = false
  let bundleExpiresMs = Infinity

  const trustedIngress = parsePeers(config.SIGNET_TRUSTED_INGRESS)
  const keySource = startKeySource({ config, log, metrics, nowMs, random: Math.random, signal: stopping.signal })
  const { keys } = keySource
  const trustText = isRemoteTrust(config) ? null : readRequired('SIGNET_BUNDLE_TRUST', config.SIGNET_BUNDLE_TRUST)
  const policies = new PolicyHolder(config.SIGNET_MODE, log)
  if (config.SIGNET_POLICY_DATA !== undefined)
    policies.useData(readRequired('SIGNET_POLICY_DATA', config.SIGNET_POLICY_DATA))
  if (config.SIGNET_WORKLOAD_LABELS !== undefined)
    policies.useLabels(readRequired('SIGNET_WORKLOAD_LABELS', config.SIGNET_WORKLOAD_LABELS))

  const tracing = await createTracing({
    serviceName: 'signet-proxy',
    serviceVersion: SOFTWARE_VERSION,
    endpoint: config.OTEL_EXPORTER_OTLP_ENDPOINT,
  })
  const client = createLedgerClient({
    ...keySource.ledger,
    url: config.SIGNET_LEDGER_URL,
    token: { file: config.SIGNET_LEDGER_TOKEN_FILE },
  })
  const lookups = createLedgerClient({
    ...keySource.ledger,
    producerId: config.SIGNET_PRODUCER_ID,
    url: config.SIGNET_LEDGER_URL,
    token: { file: config.SIGNET_LEDGER_TOKEN_FILE },
    timeoutMs: 5_000,
  })
  const journal = await openJournal({
    spool: {
      dir: config.SIGNET_SPOOL_DIR,
      maxBytes: config.SIGNET_SPOOL_MAX_BYTES,
      // Space is given back by the segment: a small spool needs small ones.
      segmentBytes: Math.min(16_777_216, Math.floor(config.SIGNET_SPOOL_MAX_BYTES / 8)),
    },
    client,
    keyring: { ackKey: (keyId) => keys.index.ackKey(keyId) },
    logger: log,
    metrics: registry,
    clock: () => new Date(),
    newId: uuidV7,
    software: `signet-proxy/${SOFTWARE_VERSION}`,
  })

  // A stamp of ours, or of whoever else's key the keyring holds or the ledger knows, within this tenant.
  const stampVerifier = createStampVerifier({
    tenant: config.SIGNET_TENANT,
    keyring: () => keys.index,
    ask: (stampBytes, signal) => lookups.vouchesFor(stampBytes, signal),
    onAsked: (result) => metrics.stampsAsked.inc({ result }),
  })
  const stamps = new StampStore(config.SIGNET_STAMP_MEMORY_BYTES)
  const clock = { nowMs, monotonicMs }
  const coders = new Lanes(CODERS)
  const recorder = new DecisionRecorder(journal, uuidV7, clock)
  const turn = new Turn((work) => recorder.group(work))
  const issuer = new StampIssuer({
    keys,
    recorder,
    store: stamps,
    metrics,
    tenant: config.SIGNET_TENANT,
    newDecisionId: uuidV7,
    publicBaseUrl: config.SIGNET_PUBLIC_BASE_URL ?? null,
    headerMaxBytes: config.SIGNET_STAMP_HEADER_MAX_BYTES,
  })
  const workload = {
    producerId: config.SIGNET_PRODUCER_ID,
    namespace: config.SIGNET_NAMESPACE,
    region: config.SIGNET_REGION ?? null,
  }
  const validator = new EgressValidator({
    recorder,
    issuer,
    metrics,
    log,
    workload,
    callerVaries: trustedIngress !== null,
    clock,
    encode: (content, coding) => encodeContent(content, coding, coders),
  })
  const upstreamOrigin = new URL(config.SIGNET_UPSTREAM).origin
  const upstream = new Pool(upstreamOrigin, {
    connections: config.SIGNET_UPSTREAM_CONNECTIONS,
    pipelining: 1,
    headersTimeout: config.SIGNET_UPSTREAM_HEADERS_TIMEOUT_MS,
    bodyTimeout: config.SIGNET_UPSTREAM_BODY_TIMEOUT_MS,
    connect: { timeout: Math.min(10_000, config.SIGNET_UPSTREAM_HEADERS_TIMEOUT_MS) },
  })

  const appFor = (channel: Channel): FastifyInstance =>
    buildApp({
      channel,
      tenant: config.SIGNET_TENANT,
      producerId: config.SIGNET_PRODUCER_ID,
      policies,
      validator,
      compression: config.SIGNET_COMPRESSION === 'on',
      exchange: {
        upstream,
        upstreamOrigin,
        validator,
        metrics,
        budget,
        turn,
        bufferBytes: config.SIGNET_BUFFER_BYTES,
        maxRatio: config.SIGNET_COMPRESSION_MAX_RATIO,
        coders,
        headersTimeoutMs: config.SIGNET_UPSTREAM_HEADERS_TIMEOUT_MS,
        bodyTimeoutMs: config.SIGNET_UPSTREAM_BODY_TIMEOUT_MS,
        stampVerifier,
        nowMs,
        synced: config.SIGNET_AUDIT === 'strict' ? () => journal.synced() : null,
      },
      stamps,
      keys,
      archive: boundedArchive(lookups),
      archiveVouches: keySource.ledgerVouches,
      trustedIngress,
      tracing: createRequestTracing(tracing),
      log,
      newRequestId: uuidV7,
      nowMs,
      monotonicMs,
      requestTimeoutMs: config.SIGNET_REQUEST_TIMEOUT_MS,
      maxHeaderBytes: config.SIGNET_MAX_HEADER_BYTES,
    })

  const admin = buildAdminApp({
    registry,
    probes: parseAppProbes(config.SIGNET_PROBES),
    draining: () => draining,
    checks: [
      { name: 'no bundle is in force', ready: () => policies.current !== null },
      // Its rules still judge; but news may be withheld from us, and the platform has to know.
      { name: 'the bundle in force has expired', ready: () => nowMs() < bundleExpiresMs },
      { name: 'no stamp key is valid', ready: () => keys.hasActive(nowMs()) },
      { name: 'the audit session is not confirmed by the ledger', ready: () => journal.sessionConfirmed },
      { name: 'the audit spool is not writable', ready: () => journal.writable },
    ],
  })

  const stopWatching: (() => void)[] = []
  if (config.SIGNET_POLICY_DATA !== undefined) {
    stopWatching.push(
      watchFile(
        config.SIGNET_POLICY_DATA,
        FILE_POLL_MS,
        (text) => policies.useData(text),
        (error) => {
          metrics.policyDataErrors.inc()
          log.error({ error }, 'the policy data changed and cannot be used; the former stays')
        },
      ),
    )
  }
  if (config.SIGNET_WORKLOAD_LABELS !== undefined) {
    stopWatching.push(
      watchFile(
        config.SIGNET_WORKLOAD_LABELS,
        FILE_POLL_MS,
        (text) => policies.useLabels(text),
        (error) => log.error({ error }, 'the labels of the pod changed and cannot be used; the former stay'),
      ),
    )
  }
  const sequence = openSequenceFloor(config.SIGNET_SPOOL_DIR)
  const bundles = followBundle({
    config,
    policies,
    metrics,
    log,
    sequence,
    trustText,
    nowMs,
    onExpiry: (atMs) => (bundleExpiresMs = atMs),
    signal: stopping.signal,
  })

  const listeners: { app: FastifyInstance; what: string; variable: string; address: string }[] = [
    {
      app: appFor('external'),
      what: 'proxy, external channel',
      variable: 'SIGNET_EXTERNAL_LISTEN',
      address: config.SIGNET_EXTERNAL_LISTEN,
    },
    { app: admin, what: 'proxy, admin', variable: 'SIGNET_ADMIN_LISTEN', address: config.SIGNET_ADMIN_LISTEN },
  ]
  if (config.SIGNET_INTERNAL_LISTEN !== undefined) {
    listeners.push({
      app: appFor('internal'),
      what: 'proxy, internal channel',
      variable: 'SIGNET_INTERNAL_LISTEN',
      address: config.SIGNET_INTERNAL_LISTEN,
    })
  }
  // A first look at the bundle before the ports open spares the first requests a 503; it is not waited for long.
  await Promise.race([bundles.first, new Promise((resolve) => setTimeout(resolve, 1_000).unref())])
  await keySource.ready()
  const listening: Record<string, string> = {}
  for (const { app, what, variable, address } of listeners) {
    await app.ready()
    const taken = await listen(app.server, parseListenAddress(variable, address), { what, variable })
    listening[variable] = `http://${taken.host}:${taken.port}`
    log.info({ listen: `${taken.host}:${taken.port}` }, `listening: ${what}`)
  }
  // A parent that started us with port 0 learns where we are.
  process.send?.({ listening })

  return {
    log,
    drainMs: drainLimitMs(config.SIGNET_DRAIN_MS),
    async stop() {
      draining = true
      for (const stop of stopWatching) stop()
      stopping.abort()
      await Promise.all(
        listeners.filter(({ app }) => app !== admin).map(({ app }) => drained(app, config.SIGNET_DRAIN_MS)),
      )
      await journal.close(config.SIGNET_DRAIN_MS)
      await Promise.all([upstream.close(), client.close(), lookups.close(), keySource.close()])
      await tracing.shutdown()
      await admin.close()
    },
  }
}

/** What closes when both drains have ended needs a moment; what never closes must not hold the pod up. */
export function drainLimitMs(drainMs: number): number {
  return Math.max(25_000, 2 * drainMs + 3_000)
}

/** Stops accepting, lets requests under way finish, and cuts what is left after `graceMs`. */
async function drained(app: FastifyInstance, graceMs: number): Promise<void> {
  const cut = setTimeout(() => app.server.closeAllConnections(), graceMs)
  app.server.closeIdleConnections()
  await app.close()
  clearTimeout(cut)
}
