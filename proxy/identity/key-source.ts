import { setTimeout as sleep } from 'node:timers/promises'
import { SignetError } from '#core/error/signet-error.ts'
import { PRODUCER_HEADER, STAMP_ROOT_HEADER, TENANT_HEADER } from '#core/identity/exchange.ts'
import { indexKeyring, parseKeyring } from '#core/keyring/keyring.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { LedgerClientOptions } from '../audit/ledger-client.ts'
import type { ProxyConfig } from '../config.ts'
import { StampKeys } from '../keys.ts'
import type { ProxyMetrics } from '../metrics.ts'
import { readRequired } from '../required-file.ts'
import { watchFile } from '../watched-file.ts'
import { createIdentityClient } from './client.ts'
import type { WorkloadCertificate } from './issued-keys.ts'
import { startWorkloadIdentity } from './workload.ts'

/** Where the keys of this proxy come from: a keyring file, or the ledger in exchange for the token of the pod. */
export type KeySource = {
  readonly keys: StampKeys
  /** What calls to the ledger have to bring for the same identity. */
  readonly ledger: Pick<LedgerClientOptions, 'connect' | 'headers' | 'onHeaders'>
  /** The proxy's own key and its certificate; null with a keyring file, and while there is none. */
  certificate(): WorkloadCertificate | null
  /** The ledger gives out stamps only where it can vouch for them. */
  readonly ledgerVouches: boolean
  /** Waits for the first keys, not for long. @throws SignetError CONFIG_INVALID when we may not be what we are configured to be */
  ready(): Promise<void>
  close(): Promise<void>
}

export type KeySourceDeps = {
  readonly config: ProxyConfig
  readonly log: Logger
  readonly metrics: ProxyMetrics
  readonly nowMs: () => number
  readonly random: () => number
  readonly signal: AbortSignal
}

const FILE_POLL_MS = 1_000
const FIRST_KEYS_WITHIN_MS = 3_000

/** @throws SignetError CONFIG_INVALID, KEYRING_INVALID */
export function startKeySource(deps: KeySourceDeps): KeySource {
  const { SIGNET_KEYRING: keyringFile, SIGNET_TRUST_CA: ca } = deps.config
  const connect = ca === undefined ? {} : { connect: { ca } }
  return keyringFile === undefined ? issuedKeys(deps, ca, connect) : keyringOfFile(deps, keyringFile, connect)
}

function keyringOfFile({ config, log, signal }: KeySourceDeps, path: string, ledger: KeySource['ledger']): KeySource {
  const index = indexKeyring(parseKeyring(readRequired('SIGNET_KEYRING', path)))
  const keys = new StampKeys(index, config.SIGNET_PRODUCER_ID, config.SIGNET_TENANT)
  const stop = watchFile(
    path,
    FILE_POLL_MS,
    (text) => {
      keys.replace(indexKeyring(parseKeyring(text)))
      log.info('keyring re-read')
    },
    (error) => log.error({ error }, 'the keyring changed and cannot be used; the former stays'),
  )
  signal.addEventListener('abort', stop, { once: true })
  return {
    keys,
    ledger,
    certificate: () => null,
    ledgerVouches: false,
    ready: async () => undefined,
    close: async () => undefined,
  }
}

function issuedKeys(deps: KeySourceDeps, ca: string | undefined, connect: KeySource['ledger']): KeySource {
  const { config, log, metrics, nowMs, random, signal } = deps
  if (ca === undefined) {
    throw new SignetError(
      'CONFIG_INVALID',
      'SIGNET_TRUST_CA is not set; where SIGNET_KEYRING is not set either, it must say whose certificate the ledger has',
    )
  }
  const tenant = config.SIGNET_TENANT
  const producerId = config.SIGNET_PRODUCER_ID
  const keys = new StampKeys(indexKeyring({ version: 1, keys: [] }), producerId, tenant)
  const client = createIdentityClient({
    url: config.SIGNET_LEDGER_URL,
    tokenFile: config.SIGNET_LEDGER_TOKEN_FILE,
    ca,
    tenant,
    producerId,
    clock: () => new Date(nowMs()),
  })
  const identity = startWorkloadIdentity({
    client,
    tenant,
    producerId,
    log,
    nowMs,
    random,
    signal,
    onResult: (result) => metrics.identityExchanges.inc({ result }),
    onKeys: (index, until) => {
      keys.replace(index)
      metrics.identityExpiry.set(until.getTime() / 1_000)
    },
  })
  return {
    keys,
    ledger: {
      ...connect,
      headers: { [TENANT_HEADER]: tenant, [PRODUCER_HEADER]: producerId },
      onHeaders: (headers) => {
        const root = headers[STAMP_ROOT_HEADER]
        if (typeof root === 'string') identity.rootSeen(root)
      },
    },
    certificate: () => identity.certificate(),
    ledgerVouches: true,
    ready: () => Promise.race([identity.first, sleep(FIRST_KEYS_WITHIN_MS, undefined, { ref: false })]),
    close: () => client.close(),
  }
}
