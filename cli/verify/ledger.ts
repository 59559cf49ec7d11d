import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { styleText } from 'node:util'
import { SignetError } from '#core/error/signet-error.ts'
import { indexKeyring, parseKeyring, type KeyIndex } from '#core/keyring/keyring.ts'
import { findState, readEndpoints, type StateFolder } from '../state.ts'
import { EXIT, UsageError } from '../usage.ts'
import { ChainRecheck, type Broken } from './chain-recheck.ts'
import { LedgerClient, type Head, type LogPage } from './ledger-client.ts'

export type LedgerOptions = {
  url: string | undefined
  tokenFile: string | undefined
  keyring: string | undefined
  /** Whose chain it should be. */
  tenant: string | undefined
  json: boolean
}

type LedgerReport = {
  result: 'verified' | 'not-fully-checked' | 'invalid'
  ledger: string
  /** As expected; else as the events say, and then among what is unchecked. */
  tenant: string | null
  head: Head
  /** Links that the ledger verified from its own bytes. */
  checked_by_ledger: number
  /** Events and links that this command checked itself, and of them those without a key to compute the link's hash with. */
  checked_here: number
  without_key: number
  /** The head of an earlier verification that the chain was found to contain: without one, a cut-off end shows nowhere. */
  known_head: Head | null
  /** What nothing but the ledger's word stands for. */
  unchecked: readonly string[]
  first_bad?: Broken & { fault?: string; found_by: 'ledger' | 'here' }
}

const HEAD_FILE = 'verified-head.json'
const EXIT_OF = { verified: EXIT.verified, 'not-fully-checked': EXIT.unchecked, invalid: EXIT.invalid } as const

/**
 * Asks the ledger to verify its chain, then checks for itself what the ledger shows, and that the chain still contains the head
 * seen last time. `verified` means that every link was found here to be made with the chain key, for the tenant expected: the
 * ledger's word alone is worth nothing. Gives the exit code. @throws UsageError when the ledger or a file cannot be read
 */
export async function verifyLedger(
  options: LedgerOptions,
  env: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  const state = findState(env, process.cwd())
  const local = state === null ? null : readEndpoints(state)
  const ledger = options.url ?? local?.ledger
  if (ledger === undefined)
    throw new UsageError('no ledger: name it with --url URL (beside npm start it is found by itself)')
  const base = URL.parse(ledger)
  if (base === null || !/^https?:$/.test(base.protocol))
    throw new UsageError(`--url is ${ledger}; it must be an http or https URL`)
  const isLocal = local !== null && URL.parse(local.ledger)?.href === base.href
  // The token found by itself is for the ledger beside npm start, and is not sent to any other.
  const tokenFile = options.tokenFile ?? (isLocal ? state?.auditorToken : undefined)
  if (tokenFile === undefined) throw new UsageError('no token: name a file that holds one with --token-file FILE')
  const client = new LedgerClient(base, (await readText(tokenFile, 'token file')).trim())
  const keys = await chainKeys(options.keyring ?? state?.ledgerKeyring, options.keyring !== undefined)

  const tenant = options.tenant ?? (isLocal ? local.tenant : undefined) ?? null
  const known = state === null ? null : await rememberedHead(state, base.href, tenant)
  const report = await check(client, base.href, keys, known, tenant)
  if (report.result !== 'invalid' && report.head.seq > 0 && state !== null)
    await rememberHead(state, base.href, report.tenant, report.head)
  process.stdout.write(options.json ? `${JSON.stringify(report, null, 2)}\n` : format(report))
  return EXIT_OF[report.result]
}

async function check(
  client: LedgerClient,
  ledger: string,
  keys: Pick<KeyIndex, 'chainKey'>,
  known: Head | null,
  tenant: string | null,
): Promise<LedgerReport> {
  const verdict = await client.verify(known)
  const recheck = new ChainRecheck(verdict.head, keys, tenant)
  const answer = (result: LedgerReport['result'], unchecked: readonly string[] = []): LedgerReport => ({
    result,
    ledger,
    tenant: recheck.tenant,
    head: verdict.head,
    checked_by_ledger: verdict.checked,
    checked_here: recheck.checked,
    without_key: recheck.withoutKey,
    known_head: known,
    unchecked,
  })
  if (!verdict.ok) {
    const bad = verdict.first_bad ?? { seq: 0, fault: 'unknown', detail: 'the ledger gave no place' }
    return { ...answer('invalid'), first_bad: { ...bad, found_by: 'ledger' } }
  }
  const bad = await recheckAll(client, verdict.head, known, recheck)
  if (bad !== null) return { ...answer('invalid'), first_bad: { ...bad, found_by: 'here' } }
  const unchecked = uncheckedOf(recheck, tenant)
  return answer(unchecked.length === 0 ? 'verified' : 'not-fully-checked', unchecked)
}

function uncheckedOf(recheck: ChainRecheck, expectedTenant: string | null): string[] {
  const { checked, withoutKey } = recheck
  if (checked === 0) return ['whether the ledger is empty: it shows no event, and nothing here knows of one']
  const unchecked: string[] = []
  if (withoutKey > 0)
    unchecked.push(`who made ${withoutKey} of ${checked} links: their chain key is not here; give it with --keyring`)
  if (expectedTenant === null)
    unchecked.push(`whose chain it is: the events say ${recheck.tenant}; say whom you expect with --tenant`)
  return unchecked
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
  let newer = Infinity
  for (let cursor: string | null = null; ;) {
    const page: LogPage = await client.logs(cursor)
    for (const item of page.items) {
      // What came after the ledger looked is for the next time.
      if (item.seq > head.seq) {
        if (item.seq >= newer) return { seq: item.seq, detail: 'the ledger shows events out of order' }
        newer = item.seq
        continue
      }
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

/** The head that a verification of this ledger and tenant found last. */
async function rememberedHead(state: StateFolder, ledger: string, tenant: string | null): Promise<Head | null> {
  const text = await readFile(path.join(state.folder, HEAD_FILE), 'utf8').catch(() => null)
  if (text === null) return null
  try {
    const { ledger: of, tenant: whose, seq, hash } = JSON.parse(text) as Partial<Head> & Record<string, unknown>
    const isOther = of !== ledger || (tenant !== null && typeof whose === 'string' && whose !== tenant)
    return !isOther && typeof seq === 'number' && typeof hash === 'string' ? { seq, hash } : null
  } catch {
    return null
  }
}

async function rememberHead(state: StateFolder, ledger: string, tenant: string | null, head: Head): Promise<void> {
  // Somebody who may read the state but not write it can verify all the same.
  await writeFile(path.join(state.folder, HEAD_FILE), `${JSON.stringify({ ledger, tenant, ...head })}\n`).catch(
    () => undefined,
  )
}

/** What the ledger says must not steer a terminal. */
function plain(text: unknown): string {
  return String(text).replaceAll(/\p{Cc}/gu, '\ufffd')
}

function format(report: LedgerReport): string {
  const paint = (style: 'green' | 'red' | 'yellow', text: string): string =>
    styleText(style, text, { stream: process.stdout })
  if (report.first_bad !== undefined) {
    const { seq, fault, detail, found_by } = report.first_bad
    return [
      `${paint('red', 'INVALID')}  ledger ${report.ledger}`,
      `  event ${seq}${fault === undefined ? '' : ` (${plain(fault)})`}: ${plain(detail)}`,
      `  found by ${found_by === 'ledger' ? 'the ledger itself' : 'this command'}; ${report.checked_by_ledger} links before it are sound`,
      '',
    ].join('\n')
  }
  const { head, known_head: known, tenant, unchecked } = report
  const title =
    unchecked.length === 0 ? paint('green', 'verified') : `${paint('yellow', 'no fault found')}, not fully checked`
  const keyless = report.without_key === 0 ? '' : `; ${report.without_key} without their chain key`
  return [
    `${title}  ledger ${report.ledger}`,
    `  chain   ${head.seq} events${tenant === null ? '' : ` of tenant ${plain(tenant)}`}, head ${head.hash.slice(0, 16)}…`,
    `  ledger  verified ${report.checked_by_ledger} links from its own bytes`,
    `  here    checked ${report.checked_here} events against their links${keyless}`,
    known === null
      ? '  end     nothing to compare with yet: a cut-off end would show from the next verification on'
      : `  end     contains the head of the last verification (event ${known.seq})`,
    ...unchecked.map((what) => `  not checked  ${plain(what)}`),
    '',
  ].join('\n')
}
