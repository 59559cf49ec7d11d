import { join } from 'node:path'
import type { OpenMetricsContentType, Registry } from 'prom-client'
import type { Logger } from 'pino'
import type { KeyIndex } from '#core/keyring/keyring.ts'
import { createAuditMetrics } from './audit-metrics.ts'
import { KeptFile } from './kept-file.ts'
import type { LedgerClient } from './ledger-client.ts'
import { unavailable } from './segment-writer.ts'
import { BATCH_ITEMS, Sender, type SenderOptions } from './sender.ts'
import { openSpool, type SpoolOptions } from './spool.ts'
import { Witness } from './witness.ts'

const DEAD_LETTER_BYTES = 64 * 1024 * 1024
const EVIDENCE_BYTES = 8 * 1024 * 1024
/** What is sent from memory: up to four batches, so that a ledger that takes its time for one does not send us back to the disk. */
const RECENT = { batches: 4, batchItems: BATCH_ITEMS, batchBytes: 2 * 1024 * 1024 }

export type JournalOptions = {
  spool: Pick<SpoolOptions, 'dir' | 'maxBytes' | 'segmentBytes' | 'fsyncIntervalMs' | 'disk'>
  client: LedgerClient
  /** Looked up at each acknowledgement: an object that follows a reloaded keyring is fine. */
  keyring: Pick<KeyIndex, 'ackKey'>
  logger: Logger
  metrics: Registry | Registry<OpenMetricsContentType>
  clock: () => Date
  /** A UUID in lowercase. */
  newId: () => string
  /** Name and version of the proxy, for the ledger. */
  software: string
  sender?: Pick<SenderOptions, 'batchItems' | 'lingerMs' | 'backoff'>
  /** Limit of the file that keeps events which the ledger refused. Default 64 MiB. */
  deadLetterBytes?: number
  random?: () => number
}

/** What the data path sees of the audit trail. */
export type AuditJournal = {
  /**
   * Records an event, and the stamp that was issued with it: both as RFC 8785 text. On return the event survives the death of the
   * process. Throws SPOOL_UNAVAILABLE (or AUDIT_EVENT_INVALID past 1 MiB): then the response must not leave.
   */
  append(eventJcs: string, stampJcs: string | Uint8Array | null): void
  /**
   * Runs `work`; what it appends is written together when it returns, and only then survives the process. Throws SPOOL_UNAVAILABLE
   * where that fails: then no response whose event was appended by `work` may leave.
   */
  group(work: () => void): void
  /** Resolves when all appended so far survives a power failure too; rejects with SPOOL_UNAVAILABLE where it may not. */
  synced(): Promise<void>
  /** False while `append` would throw, or soon. */
  readonly writable: boolean
  /** The ledger knows the session of this run. Stays true once it was. */
  readonly sessionConfirmed: boolean
  /** False from the moment on that the ledger contradicted what it signed before. */
  readonly consistent: boolean
  /** Takes no more events, sends what is left for up to `graceMs`, and ends. What is not sent stays for the next run. */
  close(graceMs: number): Promise<void>
}

/**
 * Opens the spool and begins to send: first what earlier runs left. Works without a ledger until the spool is full.
 * Throws SPOOL_LOCKED, CONFIG_INVALID, or what the file system says of the directory.
 */
export async function openJournal(options: JournalOptions): Promise<AuditJournal> {
  const { client, keyring, logger, clock, newId, random = Math.random } = options
  const metrics = createAuditMetrics(options.metrics)
  const session = { id: newId(), startedAt: clock(), software: options.software }
  const spool = openSpool({
    ...options.spool,
    session: session.id,
    startedAt: session.startedAt,
    logger,
    recent: { ...RECENT, batchItems: options.sender?.batchItems ?? BATCH_ITEMS },
    onSynced: (seconds) => metrics.fsyncSeconds.observe(seconds),
  })
  const witness = new Witness({
    checkpoint: spool.checkpoint,
    evidence: new KeptFile(join(options.spool.dir, 'contradictions.ndjson'), EVIDENCE_BYTES),
    logger,
    onInconsistent: () => metrics.inconsistent.inc(),
  })
  const sender = new Sender({
    spool,
    client,
    keyring,
    witness,
    deadLetters: new KeptFile(join(options.spool.dir, 'refused.ndjson'), options.deadLetterBytes ?? DEAD_LETTER_BYTES),
    metrics,
    logger,
    session,
    random,
    ...options.sender,
  })
  metrics.observe({
    pendingEvents: () => spool.pendingEvents,
    pendingBytes: () => spool.pendingBytes,
    diskBytes: () => spool.diskBytes,
    oldestAgeSeconds: () => ageSeconds(sender.oldestLine, clock()),
    writable: () => spool.writable,
    consistent: () => witness.consistent,
  })
  sender.start()

  const middle = `,"session":"${session.id}","spool_seq":`
  let closing: Promise<void> | undefined

  async function finish(graceMs: number): Promise<void> {
    await sender.finish(graceMs)
    await spool.close()
  }

  return {
    append(eventJcs, stampJcs) {
      if (closing !== undefined) throw unavailable('The audit journal is closing.')
      // Members in the order of RFC 8785: event, session, spool_seq, stamp.
      const head = `{"event":${eventJcs}${middle}${spool.lastSeq + 1}`
      if (stampJcs === null) spool.append(`${head}}`)
      else spool.append(`${head},"stamp":`, stampJcs, '}')
    },
    group: (work) => spool.group(work),
    synced: () => spool.synced(),
    get writable() {
      return closing === undefined && spool.writable
    },
    get sessionConfirmed() {
      return sender.sessionConfirmed
    },
    get consistent() {
      return witness.consistent
    },
    close(graceMs) {
      closing ??= finish(graceMs)
      return closing
    },
  }
}

/** Age of the event of a line; a line that cannot be read has no age. */
function ageSeconds(line: Buffer | undefined, now: Date): number {
  if (line === undefined) return 0
  try {
    const item = JSON.parse(line.toString('utf8')) as { event?: { timestamp_utc?: string } }
    return Math.max(0, (now.getTime() - Date.parse(item.event?.timestamp_utc ?? '')) / 1000) || 0
  } catch {
    return 0
  }
}
