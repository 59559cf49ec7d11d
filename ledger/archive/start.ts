import { randomUUID } from 'node:crypto'
import { openObjectStore } from '#runtime/archive/object-store.ts'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'
import type { LedgerConfig } from '../config.ts'
import { keepArchiving, type Archive, type ArchiveDutyDeps } from './duty.ts'
import { createArchiveMetrics } from './metrics.ts'

/** Null where no bucket is configured. */
export function startArchive(
  config: LedgerConfig,
  deps: Pick<ArchiveDutyDeps, 'wall' | 'work' | 'keys' | 'clock' | 'log' | 'origin'> & {
    readonly registry: MetricsRegistry
  },
): Archive | null {
  const { SIGNET_ARCHIVE_BUCKET: bucket, SIGNET_ARCHIVE_ENDPOINT: endpoint } = config
  if (bucket === undefined) return null
  const store = openObjectStore({
    bucket,
    region: config.SIGNET_ARCHIVE_REGION,
    prefix: config.SIGNET_ARCHIVE_PREFIX,
    ...(endpoint === undefined ? {} : { endpoint }),
  })
  const archive = keepArchiving({
    ...deps,
    store,
    metrics: createArchiveMetrics(deps.registry),
    holder: randomUUID(),
    retainDays: config.SIGNET_ARCHIVE_RETAIN_DAYS,
    everyMinutes: config.SIGNET_ARCHIVE_EVERY_MINUTES,
  })
  return {
    ...archive,
    async stop() {
      await archive.stop()
      store.close()
    },
  }
}
