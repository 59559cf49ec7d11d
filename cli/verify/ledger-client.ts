import { UsageError } from '../usage.ts'
import type { LogItem } from './chain-recheck.ts'

export type Head = { readonly seq: number; readonly hash: string }
export type Verdict = {
  readonly ok: boolean
  readonly checked: number
  readonly head: Head
  readonly first_bad?: { readonly seq: number; readonly fault: string; readonly detail: string }
}
export type LogPage = { readonly items: LogItem[]; readonly next_cursor: string | null }

const PAGE = 500
const REQUEST_TIMEOUT_MS = 600_000

/** Reads a ledger that nobody trusts: what is not of the form of an answer is refused. @throws UsageError */
export class LedgerClient {
  readonly #base: URL
  readonly #token: string

  constructor(base: URL, token: string) {
    this.#base = base
    this.#token = token
  }

  async verify(known: Head | null): Promise<Verdict> {
    const query = known === null || known.seq === 0 ? '' : `?checkpoint_seq=${known.seq}&checkpoint_hash=${known.hash}`
    const verdict = (await this.#get(`/api/audit/verify${query}`)) as Partial<Verdict>
    const { ok, checked, head } = verdict
    const hasForm =
      typeof ok === 'boolean' &&
      isNumber(checked) &&
      isNumber(head?.seq) &&
      /^[0-9a-f]{64}$/.test(head.hash) &&
      (head.seq > 0 || /^0*$/.test(head.hash))
    if (!hasForm) throw this.#odd('/api/audit/verify')
    return verdict as Verdict
  }

  async logs(cursor: string | null): Promise<LogPage> {
    const query = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`
    const page = (await this.#get(`/api/audit/logs?limit=${PAGE}${query}`)) as {
      items?: unknown
      next_cursor?: unknown
    }
    const { items, next_cursor: next } = page
    const isItem = (item: unknown): boolean => isNumber((item as Partial<LogItem> | null)?.seq)
    // A page without items that is not the last one would go on for ever.
    if (!Array.isArray(items) || !items.every(isItem) || (items.length === 0 && typeof next === 'string'))
      throw this.#odd('/api/audit/logs')
    return { items: items as LogItem[], next_cursor: typeof next === 'string' ? next : null }
  }

  async #get(target: string): Promise<unknown> {
    const url = new URL(target, this.#base.href)
    let response: Response
    let text: string
    try {
      response = await fetch(url, {
        headers: { authorization: `Bearer ${this.#token}` },
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
        redirect: 'error',
      })
      text = await response.text()
    } catch (error) {
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
      const { code, message } = cause as NodeJS.ErrnoException
      throw new UsageError(`cannot read ${url.href}: ${code === 'ECONNREFUSED' ? 'nothing listens there' : message}`)
    }
    let value: unknown
    try {
      value = JSON.parse(text)
    } catch {
      throw this.#odd(url.pathname)
    }
    if (response.ok && typeof value === 'object' && value !== null) return value
    const { detail } = value as { detail?: unknown }
    throw new UsageError(`the ledger answers ${response.status}${typeof detail === 'string' ? `: ${detail}` : ''}`)
  }

  #odd(target: string): UsageError {
    return new UsageError(`${this.#base.origin}${target} does not answer as a ledger does`)
  }
}

function isNumber(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}
