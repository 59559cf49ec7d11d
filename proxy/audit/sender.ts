import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { verifyAck } from '#core/audit/acknowledgement.ts'
import type { IngestAck } from '#core/audit/wire.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { KeyIndex } from '#core/keyring/keyring.ts'
import { matchAnswer, type Outcome, type RefusedItem } from './answer.ts'
import type { AuditMetrics } from './audit-metrics.ts'
import { Backoff } from './backoff.ts'
import type { KeptFile } from './kept-file.ts'
import type { LedgerClient } from './ledger-client.ts'
import type { Spool, SpoolHead } from './spool.ts'
import type { SpoolBatch, SpoolItem } from './spool-reader.ts'
import type { Witness } from './witness.ts'

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
  /** 1 to 1000. Default 500. */
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
  /** First line of the batch under way: the oldest event that is not acknowledged. */
  #oldest: Buffer | undefined

  constructor(options: SenderOptions) {
    this.#options = options
    this.#backoff = new Backoff({ baseMs: 200, maxMs: 15_000, ...options.backoff, random: options.random })
  }

  /** The ledger has confirmed the session of this run. */
  get sessionConfirmed(): boolean {
    return this.#confirmed
  }

  get oldestLine(): Buffer | undefined {
    return this.#oldest
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
    const { spool, batchItems = 500, lingerMs = 50 } = this.#options
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
    this.#oldest = batch.items[0]?.line
    const handled = new Set<SpoolItem>()
    await this.#persist('open a session', () => this.#openSession(head.session, new Date(head.startedAtMs)))
    if (this.#opened.has(head.session)) await this.#deliver(batch.items, handled)
    // Where the end came in between, what is done up to the first line that is not done counts.
    const open = batch.items.findIndex((item) => !handled.has(item))
    const items = open === -1 ? batch.items : batch.items.slice(0, open)
    const end = open === -1 ? batch.end : items.at(-1)?.end
    if (end !== undefined) spool.acknowledge({ ...batch, items, end }, witness.checkpoint)
    this.#oldest = undefined
  }

  async #read(): Promise<SpoolBatch | null> {
    const { spool, batchItems = 500, logger } = this.#options
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

  /** Sends items until each is acknowledged or refused, or the time is over. A body that the ledger cannot take is halved. */
  async #deliver(items: readonly SpoolItem[], handled: Set<SpoolItem>): Promise<void> {
    let open = items
    while (open.length > 0 && !this.#stopped) {
      let rejected: SignetError | undefined
      await this.#persist('send a batch', async () => {
        try {
          await this.#send(open, handled)
        } catch (error) {
          // Only what the failed call did not settle is sent again.
          open = open.filter((item) => !handled.has(item))
          if (!isPermanent(error)) throw error
          rejected = error
        }
      })
      open = open.filter((item) => !handled.has(item))
      if (rejected === undefined) continue
      const [first] = open
      if (open.length === 1 && first !== undefined) {
        const refused = [{ item: first, code: String(rejected.details?.['code']), detail: rejected.message }]
        if (await this.#persist('keep a refused event', () => this.#keepRefused(refused))) handled.add(first)
        return
      }
      const middle = Math.ceil(open.length / 2)
      await this.#deliver(open.slice(0, middle), handled)
      open = open.slice(middle)
    }
  }

  /** One call: adds what it settles to `handled`. Throws where it settles nothing. */
  async #send(items: readonly SpoolItem[], handled: Set<SpoolItem>): Promise<void> {
    const { client, metrics, witness } = this.#options
    const end = metrics.batchSeconds.startTimer()
    const answer = await client.ingest(
      items.map(({ line }) => line),
      this.#abort.signal,
    )
    const outcome = this.#judge(answer, items)
    end()
    await witness.compare(answer.checkpoint, answer)
    for (const item of outcome.acked) handled.add(item)
    metrics.acked.inc(outcome.acked.length)
    if (outcome.refused.length > 0) await this.#keepRefused(outcome.refused)
    for (const { item } of outcome.refused) handled.add(item)
    if (outcome.unanswered.length === items.length) {
      throw new SignetError('LEDGER_RESPONSE_INVALID', 'The ledger answered for none of the events that it was sent.')
    }
  }

  #judge(answer: IngestAck, items: readonly SpoolItem[]): Outcome {
    const key = this.#options.keyring.ackKey(answer.key_id)
    if (key === undefined) {
      throw new SignetError(
        'LEDGER_RESPONSE_INVALID',
        `The acknowledgement is signed with the key «${answer.key_id.slice(0, 80)}», which is not in the keyring.`,
      )
    }
    verifyAck(answer, key)
    return matchAnswer(answer, items)
  }

  /** Throws SPOOL_UNAVAILABLE where the dead-letter file is full: then the events stay in the spool, and what follows waits. */
  async #keepRefused(refused: readonly RefusedItem[]): Promise<void> {
    const { deadLetters, metrics, logger } = this.#options
    const kept = await deadLetters.append(
      refused.map(({ item, code, detail }) => ({
        code,
        detail,
        spool_seq: item.seq,
        line: item.line.toString('utf8'),
      })),
    )
    if (!kept) {
      throw new SignetError(
        'SPOOL_UNAVAILABLE',
        `The file of refused audit events is full: look at ${deadLetters.path} and move it away; until then no event is sent.`,
      )
    }
    metrics.refused.inc(refused.length)
    for (const { item, code, detail } of refused) {
      logger.error(
        { code, detail, spool_seq: item.seq, kept_in: deadLetters.path },
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
