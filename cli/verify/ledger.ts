import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { styleText } from 'node:util'
import { SignetError } from '#core/error/signet-error.ts'
import { indexKeyring, parseKeyring, type KeyIndex } from '#core/keyring/keyring.ts'
import { findState, readEndpoints, type StateFolder } from '../state.ts'
import { EXIT, UsageError } from '../usage.ts'
import { ChainRecheck, type Broken, type LogItem } from './chain-recheck.ts'

export type LedgerOptions = {
  url: string | undefined
  tokenFile: string | undefined
  keyring: string | undefined
  json: boolean
}

type Head = { readonly seq: number; readonly hash: string }
type Verdict = {
  readonly ok: boolean
  readonly checked: number
  readonly head: Head
  readonly first_bad?: { readonly seq: number; readonly fault: string; readonly detail: string }
}
type LedgerReport = {
  result: 'verified' | 'invalid'
  ledger: string
  head: Head
  /** Links that the ledger verified from its own bytes. */
  checked_by_ledger: number
  /** Events and links that this command checked itself, and of them those without a key to compute the link's hash with. */
  checked_here: number
  without_key: number
  /** The head of an earlier verification that the chain was found to contain: without one, a cut-off end shows nowhere. */
  known_head: Head | null
  first_bad?: Broken & { fault?: string; found_by: 'ledger' | 'here' }
}

const PAGE = 500
const REQUEST_TIMEOUT_MS = 600_000
const HEAD_FILE = 'verified-head.json'

/**
 * Asks the ledger to verify its chain, then checks for itself what the ledger shows, and that the chain still contains the head
 * seen last time. Gives the exit code. @throws UsageError when the ledger or a file cannot be read
 */
export async function verifyLedger(
  options: LedgerOptions,
  env: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  const state = findState(env, process.cwd())
  const ledger = options.url ?? (state === null ? undefined : readEndpoints(state)?.ledger)
  if (ledger === undefined)
    throw new UsageError('no ledger: name it with --url URL (beside npm start it is found by itself)')
  const base = URL.parse(ledger)
  if (base === null || !/^https?:$/.test(base.protocol))
    throw new UsageError(`--url is ${ledger}; it must be an http or https URL`)
  const tokenFile = options.tokenFile ?? state?.auditorToken
  if (tokenFile === undefined) throw new UsageError('no token: name a file that holds one with --token-file FILE')
  const client = new LedgerClient(base, (await readText(tokenFile, 'token file')).trim())
  const keys = await chainKeys(options.keyring ?? state?.ledgerKeyring, options.keyring !== undefined)

  const known = state === null ? null : await rememberedHead(state, base.href)
  const report = await check(client, base.href, keys, known)
  if (report.result === 'verified' && state !== null) await rememberHead(state, base.href, report.head)
  process.stdout.write(options.json ? `${JSON.stringify(report, null, 2)}\n` : format(report))
  return report.result === 'verified' ? EXIT.verified : EXIT.invalid
}

async function check(
  client: LedgerClient,
  ledger: string,
  keys: Pick<KeyIndex, 'chainKey'>,
  known: Head | null,
): Promise<LedgerReport> {
  const verdict = await client.verify(known)
  const recheck = new ChainRecheck(verdict.head, keys)
  const answer = (result: 'verified' | 'invalid'): LedgerReport => ({
    result,
    ledger,
    head: verdict.head,
    checked_by_ledger: verdict.checked,
    checked_here: recheck.checked,
    without_key: recheck.withoutKey,
    known_head: known,
  })
  if (!verdict.ok) {
    const bad = verdict.first_bad ?? { seq: 0, fault: 'unknown', detail: 'the ledger gave no place' }
    return { ...answer('invalid'), first_bad: { ...bad, found_by: 'ledger' } }
  }
  const bad = await recheckAll(client, verdict.head, known, recheck)
  return bad === null ? answer('verified') : { ...answer('invalid'), first_bad: { ...bad, found_by: 'here' } }
}

async function recheckAll(
  client: LedgerClient,
  head: Head,
  known: Head | null,
  recheck: ChainRecheck,
): Promise<Broken | null> {
  if (known !== null && known.seq > head.seq) {
    return {
      seq: head.seq + 1,
      detail: `the chain ends at ${head.seq}, but reached ${known.seq} when it was verified before`,
    }
  }
  if (known?.seq === head.seq && known.hash !== head.hash) return otherHead(head.seq)
  for (let cursor: string | null = null; ;) {
    const page: { items: LogItem[]; next_cursor: string | null } = await client.logs(cursor)
    for (const item of page.items) {
      // What came after the ledger looked is for the next time.
      if (item.seq > head.seq) continue
      const bad = recheck.add(item)
      if (bad !== null) return bad
      if (item.seq === known?.seq && item.hash !== known.hash) return otherHead(item.seq)
    }
    cursor = page.next_cursor
    if (cursor === null) return recheck.finish()
  }
}

function otherHead(seq: number): Broken {
  return { seq, detail: 'another link stood at this place when it was verified before' }
}

class LedgerClient {
  readonly #base: URL
  readonly #token: string

  constructor(base: URL, token: string) {
    this.#base = base
    this.#token = token
  }

  async verify(known: Head | null): Promise<Verdict> {
    const query = known === null || known.seq === 0 ? '' : `?checkpoint_seq=${known.seq}&checkpoint_hash=${known.hash}`
    const verdict = (await this.#get(`/api/audit/verify${query}`)) as Partial<Verdict>
    const { ok, head } = verdict
    if (typeof ok !== 'boolean' || typeof head?.seq !== 'number' || typeof head.hash !== 'string')
      throw this.#odd('/api/audit/verify')
    return verdict as Verdict
  }

  async logs(cursor: string | null): Promise<{ items: LogItem[]; next_cursor: string | null }> {
    const query = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`
    const page = (await this.#get(`/api/audit/logs?limit=${PAGE}${query}`)) as {
      items?: unknown
      next_cursor?: unknown
    }
    if (!Array.isArray(page.items)) throw this.#odd('/api/audit/logs')
    return {
      items: page.items as LogItem[],
      next_cursor: typeof page.next_cursor === 'string' ? page.next_cursor : null,
    }
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

/** Keys to compute link hashes with. None found by itself: only what needs no key is checked. */
async function chainKeys(file: string | undefined, isAsked: boolean): Promise<Pick<KeyIndex, 'chainKey'>> {
  const none = { chainKey: () => undefined }
  if (file === undefined) return none
  if (!isAsked) {
    const text = await readFile(file, 'utf8').catch(() => null)
    return text === null ? none : keyIndex(text, file)
  }
  return keyIndex(await readText(file, 'keyring'), file)
}

function keyIndex(text: string, file: string): KeyIndex {
  try {
    return indexKeyring(parseKeyring(text))
  } catch (error) {
    if (error instanceof SignetError) throw new UsageError(`the keyring ${file} cannot be used: ${error.message}`)
    throw error
  }
}

async function readText(file: string, what: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new UsageError(`cannot read the ${what} ${file}: ${code === 'ENOENT' ? 'there is no such file' : message}`)
  }
}

async function rememberedHead(state: StateFolder, ledger: string): Promise<Head | null> {
  const text = await readFile(path.join(state.folder, HEAD_FILE), 'utf8').catch(() => null)
  if (text === null) return null
  try {
    const { ledger: of, seq, hash } = JSON.parse(text) as Partial<Head> & { ledger?: string }
    return of === ledger && typeof seq === 'number' && typeof hash === 'string' ? { seq, hash } : null
  } catch {
    return null
  }
}

async function rememberHead(state: StateFolder, ledger: string, head: Head): Promise<void> {
  // Somebody who may read the state but not write it can verify all the same.
  await writeFile(path.join(state.folder, HEAD_FILE), `${JSON.stringify({ ledger, ...head })}\n`).catch(() => undefined)
}

function format(report: LedgerReport): string {
  const paint = (style: 'green' | 'red', text: string): string => styleText(style, text, { stream: process.stdout })
  if (report.first_bad !== undefined) {
    const { seq, fault, detail, found_by } = report.first_bad
    return [
      `${paint('red', 'INVALID')}  ledger ${report.ledger}`,
      `  event ${seq}${fault === undefined ? '' : ` (${fault})`}: ${detail}`,
      `  found by ${found_by === 'ledger' ? 'the ledger itself' : 'this command'}; ${report.checked_by_ledger} links before it are sound`,
      '',
    ].join('\n')
  }
  const { head, known_head: known } = report
  const keyless = report.without_key === 0 ? '' : `; ${report.without_key} without their chain key`
  return [
    `${paint('green', 'verified')}  ledger ${report.ledger}`,
    `  chain   ${head.seq} events, head ${head.hash.slice(0, 16)}…`,
    `  ledger  verified ${report.checked_by_ledger} links from its own bytes`,
    `  here    checked ${report.checked_here} events against their links${keyless}`,
    known === null
      ? '  end     nothing to compare with yet: a cut-off end would show from the next verification on'
      : `  end     contains the head of the last verification (event ${known.seq})`,
    '',
  ].join('\n')
}
