import { Compile } from 'typebox/compile'
import { digestText } from '#core/crypto/digest.ts'
import { ERROR_CODES, type ErrorCode } from '#core/error/codes.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { indexKeyring, parseKeyring } from '#core/keyring/keyring.ts'
import { MAX_VERDICT_BYTES, STAMP_VERDICT_PATH, StampVerdict } from '#core/stamp/verdict.ts'
import { matchStamp, verifyStamp, type StampToVerify, type VerifiedStamp } from '#core/stamp/verify.ts'
import { readBounded } from './bounded.ts'

export type StampToJudge = Omit<StampToVerify, 'keyring'>

/**
 * Who says that a stamp was made by a key that may have made it. Checks all else of the stamp too.
 * Rejects with a SignetError: STAMP_… where the stamp is wrong, LEDGER_… where nobody could be asked.
 */
export type StampAuthority = (toJudge: StampToJudge, signal: AbortSignal) => Promise<VerifiedStamp>

/**
 * Verifies with keys: the text of a keyring file. Who holds it can also forge, so it belongs into tests, into what the platform runs, and
 * beside `npm start`; an application asks the ledger.
 * @throws SignetError KEYRING_INVALID
 */
export function keyringAuthority(keyringText: string): StampAuthority {
  const keyring = indexKeyring(parseKeyring(keyringText))
  return async (toJudge) => verifyStamp({ ...toJudge, keyring })
}

export type LedgerAuthorityOptions = {
  /** Origin of the ledger. */
  readonly url: string
  /** Bearer token with the scope `stamps:read`; its tenant is the one whose stamps verify. */
  readonly token: () => string | Promise<string>
  readonly fetch?: typeof globalThis.fetch
  /** Monotonic milliseconds. */
  readonly now?: () => number
}

const validator = Compile(StampVerdict)
/** As long as a proxy remembers: a key that is revoked makes no new stamps meanwhile. */
const REMEMBERED_MS = 60_000
const MAX_REMEMBERED = 10_000
const MAX_ANSWER_BYTES = 64 * 1024

/**
 * Asks the ledger, which has the keys (docs/adr/0061): only about stamps that are right in all else, and once a minute about each.
 * Rejects with LEDGER_UNREACHABLE, LEDGER_REFUSED or LEDGER_RESPONSE_INVALID where no verdict could be had.
 */
export function ledgerAuthority(options: LedgerAuthorityOptions): StampAuthority {
  const now = options.now ?? (() => performance.now())
  /** By hash of the stamp: when it was asked about; what the ledger holds against it, null for nothing. */
  const verdicts = new Map<string, { readonly fault: ErrorCode | null; readonly untilMs: number }>()
  return async (toJudge, signal) => {
    const verified = matchStamp(toJudge)
    const known = verdicts.get(verified.hash)
    let fault: ErrorCode | null
    if (known !== undefined && known.untilMs > now()) ({ fault } = known)
    else {
      fault = await ask(options, toJudge.stampBytes, signal)
      verdicts.delete(verified.hash)
      if (verdicts.size >= MAX_REMEMBERED) verdicts.delete(verdicts.keys().next().value ?? '')
      verdicts.set(verified.hash, { fault, untilMs: now() + REMEMBERED_MS })
    }
    if (fault !== null)
      throw new SignetError(fault, `the ledger does not vouch for the stamp: ${ERROR_CODES[fault].title}`)
    return verified
  }
}

async function ask(
  options: LedgerAuthorityOptions,
  stampBytes: Uint8Array,
  signal: AbortSignal,
): Promise<ErrorCode | null> {
  if (stampBytes.byteLength > MAX_VERDICT_BYTES)
    throw new SignetError('STAMP_INVALID', `the ledger takes stamps of ${MAX_VERDICT_BYTES} bytes at most`)
  const call = options.fetch ?? globalThis.fetch
  let response: Response
  let body: Buffer
  try {
    response = await call(new URL(STAMP_VERDICT_PATH, options.url), {
      method: 'POST',
      headers: { authorization: `Bearer ${await options.token()}`, 'content-type': 'application/json' },
      body: Buffer.from(stampBytes),
      redirect: 'error',
      signal,
    })
    body = await readBounded(response, MAX_ANSWER_BYTES)
  } catch (cause) {
    throw new SignetError('LEDGER_UNREACHABLE', 'the ledger could not be asked about the stamp', { cause })
  }
  if (!response.ok)
    throw new SignetError('LEDGER_REFUSED', `the ledger answered ${response.status} when it was asked about the stamp`)
  return readVerdict(body, digestText(stampBytes))
}

/** What the ledger holds against the stamp; null where it vouches. */
function readVerdict(body: Buffer, hash: string): ErrorCode | null {
  let value: unknown
  try {
    value = JSON.parse(body.toString())
  } catch (cause) {
    throw new SignetError('LEDGER_RESPONSE_INVALID', 'the verdict of the ledger is no JSON', { cause })
  }
  if (!validator.Check(value) || value.stamp_hash !== hash)
    throw new SignetError('LEDGER_RESPONSE_INVALID', 'the verdict of the ledger is none, or about another stamp')
  if (value.verified) return null
  const { code } = value
  return code?.startsWith('STAMP_') === true && Object.hasOwn(ERROR_CODES, code)
    ? (code as ErrorCode)
    : 'STAMP_MAC_MISMATCH'
}
