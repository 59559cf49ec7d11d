import { randomBytes } from 'node:crypto'
import { SignetError } from '#core/error/signet-error.ts'
import { checkPersonalFile, sealRules } from '#core/seal/rules.ts'
import { followPolicyFile } from '#runtime/identity/policy-file.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'
import type { LedgerConfig } from '../config.ts'
import type { LedgerKeys } from '../keys.ts'
import { NO_RESIDENCY, residencyPolicy, type ResidencyPolicy } from '../residency/policy.ts'
import { findEvents } from '../store/wall.ts'
import type { Erasures } from './erasure.ts'
import { createErasureMetrics } from './metrics.ts'
import { createSealer, type Sealer } from './sealer.ts'

export type SealingOptions = {
  readonly wall: Pool
  readonly work: Pool
  readonly keys: LedgerKeys
  readonly clock: () => Date
  readonly log: Logger
  readonly signal: AbortSignal
}

/**
 * Sealing and residency, by configuration. @throws SignetError CONFIG_INVALID for a file that cannot be used, and where personal fields are to be
 * sealed and the keyring has nothing to seal them with: a ledger that wrote them in clear could never take that back
 */
export async function startSealing(
  config: LedgerConfig,
  { wall, work, keys, clock, log, signal }: SealingOptions,
): Promise<{ readonly sealer: Sealer | null; readonly residency: () => ResidencyPolicy }> {
  const following = (variable: 'SIGNET_LEDGER_PERSONAL' | 'SIGNET_LEDGER_RESIDENCY') => ({
    variable,
    path: config[variable],
    signal,
    onChange: () => log.info({ variable }, 'the file was re-read'),
    onError: (error: unknown) => log.error({ error, variable }, 'the file cannot be used; what it said before holds'),
  })
  const residency = await followPolicyFile(following('SIGNET_LEDGER_RESIDENCY'), residencyPolicy, NO_RESIDENCY)
  if (config.SIGNET_LEDGER_SEALING === 'off') {
    log.warn('personal fields are recorded in clear (SIGNET_LEDGER_SEALING=off): nobody can ever be erased from them')
    return { sealer: null, residency }
  }
  if (keys.activeSealMaster(clock()) === null) {
    throw new SignetError(
      'CONFIG_INVALID',
      `the keyring ${config.SIGNET_LEDGER_KEYRING} has no valid key with use "seal-master", which personal fields are sealed with: ` +
        'add one (signet keys rotate FILE --use seal-master --lifetime 3650), or set SIGNET_LEDGER_SEALING=off to record them in clear for ever',
    )
  }
  const rules = await followPolicyFile(
    following('SIGNET_LEDGER_PERSONAL'),
    (value, source) => sealRules(checkPersonalFile(value, source)),
    sealRules(),
  )
  const recorded = async (tenant: string, eventIds: readonly string[]) =>
    new Set(
      (await withTenant(wall, tenant, (client) => findEvents(client, tenant, eventIds), { readOnly: true })).keys(),
    )
  return { sealer: createSealer({ work, masterKeys: keys, rules, clock, randomBytes, recorded }), residency }
}

const RECEIPTS_EVERY_MS = 15_000
const AGAIN_EVERY_MS = 300_000

/**
 * Writes receipts that a crash kept back; destroys again what a restored work database brought back; puts keys under the master key of now.
 * At once, and then every few minutes.
 */
export function keepErasing(
  { sealer, erasures }: { readonly sealer: Sealer | null; readonly erasures: Erasures | null },
  { log, registry }: { readonly log: Logger; readonly registry: MetricsRegistry },
): { stop(): Promise<void> } {
  if (sealer === null || erasures === null) return { stop: () => Promise.resolve() }
  const metrics = createErasureMetrics(registry)
  let timer: NodeJS.Timeout | undefined
  let stopped = false
  let nextAgain = 0
  const work = async (): Promise<void> => {
    metrics.unrecorded.set(await erasures.unrecorded())
    await erasures.recordWaiting()
    metrics.unrecorded.set(0)
    if (performance.now() < nextAgain) return
    const destroyed = await erasures.destroyAgain()
    if (destroyed > 0) {
      metrics.repeated.inc(destroyed)
      log.error({ destroyed }, 'keys of erased people were in the work database again, and are destroyed again')
    }
    const rewrapped = await sealer.rewrap()
    if (rewrapped > 0) log.info({ rewrapped }, 'keys of data subjects are under the present seal-master')
    nextAgain = performance.now() + AGAIN_EVERY_MS
  }
  let running: Promise<void> = Promise.resolve()
  const run = (): void => {
    running = work()
      .catch((error: unknown) => log.warn({ error }, 'erasures have to wait'))
      .finally(() => {
        if (!stopped) timer = setTimeout(run, RECEIPTS_EVERY_MS).unref()
      })
  }
  run()
  return {
    async stop() {
      stopped = true
      clearTimeout(timer)
      await running
    },
  }
}
