import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { MAX_BATCH_ITEMS } from '#core/audit/wire.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { KeyIndex } from '#core/keyring/keyring.ts'
import { openAck } from './ack-reader.ts'
import { matchAnswer, type RefusedItem } from './answer.ts'
import type { AuditMetrics } from './audit-metrics.ts'
import { Backoff } from './backoff.ts'
import type { KeptFile } from './kept-file.ts'
import type { LedgerClient } from './ledger-client.ts'
import type { LineBatch } from './line-batch.ts'
import type { Spool, SpoolHead } from './spool.ts'
import type { Witness } from './witness.ts'

/** Lines of a batch unless told otherwise. */
export const BATCH_ITEMS = MAX_BATCH_ITEMS
const BATCH_BYTES = 4 * 1024 * 1024
const READ_ATTEMPTS = 5
/** What a ledger says of a body that it will never take; anything else is tried again. */
const PERMANENT_CODES = new Set(['AUDIT_EVENT_INVALID', 'JSON_INVALID', 'PAYLOAD_TOO_LARGE', 'REQUEST_INVALID'])

export type SenderOptions = {
  spool: Spool
  client: LedgerClient
  keyring: Pick<KeyIndex, 'ackKey'>
  witness: Witness
  deadLetters: KeptFile
  metrics: AuditMetrics
  logger: Logger
  session: { id: string; startedAt: Date; software: string }
  /** 1 to 1000. Default 1000. */
  batchItems?: number
  /**
   * How long waiting events wait for company. A batch costs some file operations and a signature to check, whatever its size: sent as
   * fast as it can be, each would be small and the proxy busy with them. Default 50 ms.
   */
  lingerMs?: number
  backoff?: { baseMs: number; maxMs: number }
  random: () => number
}

/**
 * Carries the spool to the ledger: one batch at a time, in order, each until the ledger has answered for every line with a
 * signature that verifies. Sessions of earlier runs go first; they are closed as not clean once they are drained.
 */
export class Sender {
  readonly #options: SenderOptions
  readonly #backoff: Backoff
  readonly #abort = new AbortController()
  readonly #opened = new Set<string>()
  #running: Promise<void> | undefined
  #finishing = false
  #confirmed = false
  #drained = false
  /** Under way: its first line is the oldest event that is not acknowledged. */
  #batch: LineBatch | undefined

  constructor(options: SenderOptions) {
    this.#options = options
    this.#backoff = new Backoff({ baseMs: 200, maxMs: 15_000, ...options.backoff, random: options.random })
  }

  /** The ledger has confirmed the session of this run. */
  get sessionConfirmed(): boolean {
    return this.#confirmed
  }

  get oldestLine(): Buffer | undefined {
    return this.#batch !== undefined && this.#batch.count > 0 ? this.#batch.line(0) : undefined
  }

  start(): void {
    this.#running ??= this.#run()
  }

  /**
   * Sends what is left, for up to `graceMs`, and closes the session as clean if nothing is left. False: the next process goes on.
   * Nothing may be appended to the spool any more.
   */
  async finish(graceMs: number): Promise<boolean> {
    this.#finishing = true
    this.#options.spool.interrupt()
    const timer = setTimeout(() => this.#abort.abort(), graceMs)
    await this.#running
    clearTimeout(timer)
    return this.#drained
  }

  get #stopped(): boolean {
    return this.#abort.signal.aborted
  }

  async #run(): Promise<void> {
    const { session } = this.#options
    if (await this.#persist('open the session', () => this.#openSession(session.id, session.startedAt)))
      this.#confirmed = true
    while (!this.#stopped && !this.#drained) {
      try {
        await this.#step()
      } catch (error) {
        // Not expected: every call that may fail is repeated below. Whatever it is, events must go on.
        this.#report('go on', error)
        await this.#backoff.wait(this.#abort.signal)
      }
    }
  }

  async #step(): Promise<void> {
    const { spool, session } = this.#options
    const head = spool.head()
    if (head?.pending === true) {
      if (head.current) await this.#linger()
      await this.#sendNext(head)
    } else if (head !== null && !head.current) {
      await this.#closeSession(head, false)
    } else if (this.#finishing) {
      const own = { session: session.id, startedAtMs: session.startedAt.getTime(), lastSeq: spool.lastSeq }
      this.#drained = await this.#closeSession(own, true)
    } else {
      await spool.appended()
    }
  }

  /** Waits for company unless a batch is full already or the end is near. */
  async #linger(): Promise<void> {
    const { spool, batchItems = BATCH_ITEMS, lingerMs = 50 } = this.#options
    if (this.#finishing || lingerMs === 0 || spool.pendingEvents >= batchItems) return
    await sleep(lingerMs, undefined, { signal: this.#abort.signal }).catch(() => undefined)
  }

  /** Repeats an action until it succeeds; false where it was given up because the time is over. */
  async #persist(what: string, action: () => Promise<void>): Promise<boolean> {
    for (;;) {
      if (this.#stopped) return false
      try {
        await action()
        if (this.#backoff.attempt > 0) this.#options.logger.info(`the audit sender could ${what} again`)
        this.#backoff.reset()
        return true
      } catch (error) {
        if (this.#stopped) return false
        this.#report(what, error)
        if (!(await this.#backoff.wait(this.#abort.signal))) return false
      }
    }
  }

  #report(what: string, error: unknown): void {
    const { metrics, logger } = this.#options
    const code = error instanceof SignetError ? error.code : 'INTERNAL'
    metrics.sendFailures.inc({ code })
    const attempt = this.#backoff.attempt + 1
    // The first failure, then ever rarer: an outage of a day is not a day of log lines.
    if ((attempt & (attempt - 1)) === 0) {
      logger.error({ err: error, code, attempt }, `the audit sender could not ${what}; it tries again`)
    }
  }

  async #openSession(session: string, startedAt: Date): Promise<void> {
    if (this.#opened.has(session)) return
    const { client, spool, witness, logger, session: ours } = this.#options
    // A session that the ledger knows and this spool forgot could never be closed: first make it durable here.
    if (session === ours.id) await spool.synced()
    const open = { version: 1, session, started_at: startedAt.toISOString(), software: ours.software } as const
    let opened
    try {
      opened = await client.openSession(open, this.#abort.signal)
    } catch (error) {
      if (session === ours.id || refusalCode(error) !== 'SESSION_FORBIDDEN') throw error
      // Left by a proxy of another name: its events are refused one by one and kept, and ours do not wait behind them for ever.
      logger.error(
        { session },
        'the audit spool holds a session of another producer; the ledger will refuse its events',
      )
      this.#opened.add(session)
      return
    }
    // Not signed, so it can raise the alarm but does not move what we hold the ledger to.
    await witness.compare(opened.checkpoint, null)
    this.#opened.add(session)
  }

  async #closeSession(head: Omit<SpoolHead, 'current' | 'pending'>, clean: boolean): Promise<boolean> {
    const { client, spool, logger } = this.#options
    const { session, lastSeq } = head
    const closed = await this.#persist('close a session', async () => {
      await this.#openSession(session, new Date(head.startedAtMs))
      try {
        await client.closeSession(session, { version: 1, last_spool_seq: lastSeq, clean }, this.#abort.signal)
      } catch (error) {
        if (refusalCode(error) !== 'SESSION_FORBIDDEN') throw error
        logger.error({ session }, 'a session of another producer in the audit spool cannot be closed at the ledger')
      }
    })
    if (!closed) return false
    this.#opened.delete(session)
    await spool.forgetSession(session)
    logger.info({ session, last_spool_seq: lastSeq, clean }, 'audit session closed')
    return true
  }

  async #sendNext(head: SpoolHead): Promise<void> {
    const { spool, witness } = this.#options
    const batch = await this.#read()
    if (batch === null) return
    this.#batch = batch
    const open = new Set(Array.from({ length: batch.count }, (_, index) => index))
    await this.#persist('open a session', () => this.#openSession(head.session, new Date(head.startedAtMs)))
    if (this.#opened.has(head.session)) await this.#deliver(batch, [...open], open)
    this.#batch = undefined
    // Where the end came in between, what is done up to the first line that is not done counts.
    const done = open.values().next().value ?? batch.count
    if (done > 0 || batch.count === 0) spool.acknowledge(batch, witness.checkpoint, done, open.size === 0)
  }

  async #read(): Promise<LineBatch | null> {
    const { spool, batchItems = BATCH_ITEMS, logger } = this.#options
    for (let attempt = 1; ; attempt += 1) {
      try {
        const batch = await spool.read(batchItems, BATCH_BYTES)
        return batch
      } catch (error) {
        logger.error({ err: error, attempt }, 'the audit spool cannot be read')
        if (attempt === READ_ATTEMPTS) {
          spool.skipSegment()
          return null
        }
        if (!(await this.#backoff.wait(this.#abort.signal))) return null
      }
    }
  }

  /**
   * Sends lines until each is acknowledged or refused (and taken out of `open`), or the time is over. A body that the ledger cannot
   * take is halved.
   */
  async #deliver(batch: LineBatch, indexes: readonly number[], open: Set<number>): Promise<void> {
    let left = indexes
    while (left.length > 0 && !this.#stopped) {
      let rejected: SignetError | undefined
      await this.#persist('send a batch', async () => {
        try {
          await this.#send(batch, left, open)
        } catch (error) {
          // Only what the failed call did not settle is sent again.
          left = left.filter((index) => open.has(index))
          if (!isPermanent(error)) throw error
          rejected = error
        }
      })
      left = open.size === 0 ? [] : left.filter((index) => open.has(index))
      if (rejected === undefined) continue
      const [first] = left
      if (left.length === 1 && first !== undefined) {
        const refused = [{ index: first, code: String(rejected.details?.['code']), detail: rejected.message }]
        if (await this.#persist('keep a refused event', () => this.#keepRefused(batch, refused))) open.delete(first)
        return
      }
      const middle = Math.ceil(left.length / 2)
      await this.#deliver(batch, left.slice(0, middle), open)
      left = left.slice(middle)
    }
  }

  /** One call: takes what it settles out of `open`. Throws where it settles nothing. */
  async #send(batch: LineBatch, indexes: readonly number[], open: Set<number>): Promise<void> {
    const { client, keyring, metrics, witness } = this.#options
    const end = metrics.batchSeconds.startTimer()
    const received = await client.ingest(batch.bodyOf(indexes), this.#abort.signal)
    const answer = openAck(received, keyring)
    const outcome = matchAnswer(answer, batch, indexes)
    end()
    await witness.compare(answer.head.checkpoint, received)
    if (outcome.acked.length === open.size) open.clear()
    else for (const index of outcome.acked) open.delete(index)
    metrics.acked.inc(outcome.acked.length)
    if (outcome.refused.length > 0) await this.#keepRefused(batch, outcome.refused)
    for (const { index } of outcome.refused) open.delete(index)
    if (outcome.unanswered === indexes.length) {
      throw new SignetError('LEDGER_RESPONSE_INVALID', 'The ledger answered for none of the events that it was sent.')
    }
  }

  /** Throws SPOOL_UNAVAILABLE where the dead-letter file is full: then the events stay in the spool, and what follows waits. */
  async #keepRefused(batch: LineBatch, refused: readonly RefusedItem[]): Promise<void> {
    const { deadLetters, metrics, logger } = this.#options
    const kept = await deadLetters.append(
      refused.map(({ index, code, detail }) => ({
        code,
        detail,
        spool_seq: batch.seq(index),
        line: batch.line(index).toString('utf8'),
      })),
    )
    if (!kept) {
      throw new SignetError(
        'SPOOL_UNAVAILABLE',
        `The file of refused audit events is full: look at ${deadLetters.path} and move it away; until then no event is sent.`,
      )
    }
    metrics.refused.inc(refused.length)
    for (const { index, code, detail } of refused) {
      logger.error(
        { code, detail, spool_seq: batch.seq(index), kept_in: deadLetters.path },
        'the ledger refused an audit event',
      )
    }
  }
}

function isPermanent(error: unknown): error is SignetError {
  return PERMANENT_CODES.has(refusalCode(error) ?? '')
}

function refusalCode(error: unknown): string | undefined {
  if (!(error instanceof SignetError) || error.code !== 'LEDGER_REFUSED') return undefined
  const code = error.details?.['code']
  return typeof code === 'string' ? code : undefined
}
