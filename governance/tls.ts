import { readFile } from 'node:fs/promises'
import type { Logger } from '#runtime/telemetry/log.ts'
import { followFile } from '#runtime/process/followed-file.ts'
import { createReloadingHttpsOptions } from '#runtime/tls/reloading.ts'
import type { GovernanceConfig } from './config.ts'

const POLL_MS = 10_000

/** The listener's certificate, followed while the process runs; null: plain HTTP. @throws SignetError TLS_INVALID */
export function listenerTls(
  { tls }: Pick<GovernanceConfig, 'tls'>,
  { log, signal }: { log: Logger; signal: AbortSignal },
): ReturnType<typeof createReloadingHttpsOptions> | null {
  if (tls === null) return null
  return createReloadingHttpsOptions({
    ...tls,
    signal,
    onReload: () => log.info('the certificate of the listener was re-read'),
    onError: (error) => log.error({ error }, 'certificate and key changed and cannot be used; the former stay'),
  })
}

/** The authority that the ledger's certificate must be from, as its file says now; undefined: the system's. @throws what reading it throws */
export async function ledgerAuthority(
  path: string | undefined,
  { log, signal }: { log: Logger; signal: AbortSignal },
): Promise<() => string | undefined> {
  if (path === undefined) return () => undefined
  let text = await readFile(path, 'utf8')
  followFile({
    path,
    text,
    pollMs: POLL_MS,
    signal,
    apply(now) {
      text = now
    },
    onError: (error) => log.error({ error }, 'the authority of the ledger cannot be read; the former stays'),
  })
  return () => text
}
