import { setTimeout as sleep } from 'node:timers/promises'
import { Compile } from 'typebox/compile'
import { canonicalize } from '#core/canonical/jcs.ts'
import { digestText } from '#core/crypto/digest.ts'
import type { AuditEvent } from '#core/audit/event.ts'
import { checkAuditEvent } from '#core/audit/validate.ts'
import { LogAck } from '#core/audit/wire.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { readBounded } from '../stamp/bounded.ts'
import { DEFAULT_BACKOFF, isTransient, waitOf, type Backoff } from './backoff.ts'

/** Resolves when the event is in the ledger's chain, on disk. */
export type Recorder = (event: AuditEvent) => Promise<void>

export type LedgerRecorderOptions = {
  /** Origin of the ledger. */
  readonly url: string
  /** Bearer token with the scope `audit:write`. */
  readonly token: () => string | Promise<string>
  /** Default 6. */
  readonly tries?: number
  /** Of each try, milliseconds; default 10,000. */
  readonly timeoutMs?: number
  readonly backoff?: Backoff
  readonly fetch?: typeof globalThis.fetch
  readonly wait?: (ms: number) => Promise<unknown>
}

const validator = Compile(LogAck)
const MAX_ANSWER_BYTES = 64 * 1024

/**
 * Records one event at a time with the ledger, `POST /api/audit/logs`. A retry sends the same bytes, so that an event that was recorded
 * already is not recorded twice.
 * Rejects with a SignetError: AUDIT_EVENT_INVALID (not sent), LEDGER_UNREACHABLE after the last try, LEDGER_REFUSED, LEDGER_RESPONSE_INVALID
 */
export function ledgerRecorder(options: LedgerRecorderOptions): Recorder {
  const { tries = 6, backoff = DEFAULT_BACKOFF, wait = sleep } = options
  return async (event) => {
    const body = canonicalize(checkAuditEvent(event))
    for (let attempt = 0; ; attempt += 1) {
      const { status, answer, cause } = await post(options, body)
      if (status === 201) return requireAck(answer, event, body)
      if (!isTransient(status))
        throw new SignetError('LEDGER_REFUSED', `the ledger refuses the event with ${status}${codeOf(answer)}`, {
          details: { status },
        })
      if (attempt + 1 >= tries)
        throw new SignetError('LEDGER_UNREACHABLE', `the ledger did not take the event in ${tries} tries`, { cause })
      await wait(waitOf(backoff, attempt))
    }
  }
}

type Answer = { readonly status: number | null; readonly answer: unknown; readonly cause?: unknown }

async function post({ url, token, timeoutMs = 10_000, fetch }: LedgerRecorderOptions, body: string): Promise<Answer> {
  const call = fetch ?? globalThis.fetch
  try {
    const response = await call(new URL('/api/audit/logs', url), {
      method: 'POST',
      headers: { authorization: `Bearer ${await token()}`, 'content-type': 'application/json' },
      body,
      redirect: 'error',
      signal: AbortSignal.timeout(timeoutMs),
    })
    const text = (await readBounded(response, MAX_ANSWER_BYTES)).toString()
    return { status: response.status, answer: parsed(text) }
  } catch (cause) {
    return { status: null, answer: null, cause }
  }
}

function requireAck(answer: unknown, event: AuditEvent, body: string): void {
  if (
    validator.Check(answer) &&
    answer.ack.event_id === event.event_id &&
    answer.ack.received_digest === digestText(body)
  )
    return
  throw new SignetError('LEDGER_RESPONSE_INVALID', 'the ledger acknowledged something else than was sent')
}

function codeOf(answer: unknown): string {
  const code = typeof answer === 'object' && answer !== null && 'code' in answer ? answer.code : undefined
  return typeof code === 'string' && /^[A-Z_]{1,64}$/.test(code) ? ` (${code})` : ''
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return null
  }
}
