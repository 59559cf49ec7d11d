import { readFile } from 'node:fs/promises'
import { styleText } from 'node:util'
import { commitment } from '#core/chain/link.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { ErrorCode } from '#core/error/codes.ts'
import { parseStrict } from '#core/json/strict.ts'
import { parseEventProof, verifyEventProof, type EventProof } from '#core/tree/event-proof.ts'
import { parseVerifier, type NoteVerifier } from '#core/tree/note.ts'
import { EXIT, UsageError } from '../usage.ts'
import { sealedBytes, type LogItem } from './chain-recheck.ts'

export type ProofOptions = {
  readonly proof: string
  /** A verifier as `/log/keys` has it, or a file with one on each line. */
  readonly logKey: string | undefined
  /** File with the event's item of `GET /api/audit/logs`. */
  readonly event: string | undefined
  readonly json: boolean
}
type ProofReport = {
  readonly result: 'verified' | 'not-fully-checked' | 'invalid'
  readonly event_id?: string
  readonly seq?: number
  readonly leaf_index?: number
  readonly origin?: string
  readonly tree_size?: number
  readonly root?: string
  readonly unchecked: readonly string[]
  readonly code?: ErrorCode
  readonly detail?: string
}

const FINDINGS = new Set<ErrorCode>(['TREE_PROOF_INVALID', 'NOTE_INVALID', 'NOTE_UNTRUSTED', 'JSON_INVALID'])
const EXIT_OF = { verified: EXIT.verified, 'not-fully-checked': EXIT.unchecked, invalid: EXIT.invalid } as const

/**
 * Checks with nothing but files that an event is in a signed tree. Without the event itself, only that its commitment is: exit 3.
 * Gives the exit code. @throws UsageError when a file or the key cannot be read
 */
export async function verifyProof(options: ProofOptions): Promise<number> {
  if (options.logKey === undefined)
    throw new UsageError(
      'no key of the log: give one with --log-key (GET /log/keys of the ledger, from a source that you trust)',
    )
  const log = await loadLogKeys(options.logKey)
  const proofBytes = await readBytes(options.proof, 'proof')
  const itemBytes = options.event === undefined ? null : await readBytes(options.event, 'event')
  const report = check(proofBytes, itemBytes, log)
  process.stdout.write(options.json ? `${JSON.stringify(report, null, 2)}\n` : format(options.proof, report))
  return EXIT_OF[report.result]
}

function check(proofBytes: Buffer, itemBytes: Buffer | null, log: readonly NoteVerifier[]): ProofReport {
  try {
    const proof = parseEventProof(proofBytes)
    const { origin, size, root, leafIndex } = verifyEventProof(proof, log)
    if (itemBytes !== null) checkEvent(proof, parseStrict(itemBytes) as unknown as LogItem)
    const unchecked = itemBytes === null ? ['what the leaf commits to: give the event with --event FILE'] : []
    return {
      result: itemBytes === null ? 'not-fully-checked' : 'verified',
      event_id: proof.event_id,
      seq: proof.seq,
      leaf_index: leafIndex,
      origin,
      tree_size: size,
      root: root.toString('base64'),
      unchecked,
    }
  } catch (error) {
    if (!(error instanceof SignetError) || !FINDINGS.has(error.code)) throw error
    return { result: 'invalid', unchecked: [], code: error.code, detail: error.message }
  }
}

/** That the event is the one that the leaf commits to. @throws SignetError TREE_PROOF_INVALID */
function checkEvent(proof: EventProof, item: LogItem): void {
  const bad = (what: string): SignetError => new SignetError('TREE_PROOF_INVALID', what)
  if (typeof item !== 'object' || item === null || typeof item.event !== 'object' || item.event === null)
    throw bad('the event is not an item of GET /api/audit/logs')
  if (!/^[0-9a-f]{64}$/.test(item.nonce)) throw bad('the event has no nonce of 64 hex digits')
  const sealed = sealedBytes(item, item.event)
  if (sealed === null || commitment(Buffer.from(item.nonce, 'hex'), sealed).toString('hex') !== proof.commitment)
    throw bad('the event is not the one that the leaf commits to')
  if (item.event.event_id !== proof.event_id)
    throw bad('the proof names another event_id than the event that it proves')
  if (item.seq !== proof.seq || item.hash !== proof.link_hash)
    throw bad('the proof names another link than the event has')
}

async function loadLogKeys(given: string): Promise<NoteVerifier[]> {
  const isKey = /^[^\s+/]+\+[0-9a-f]{8}\+/.test(given)
  const text = isKey ? given : (await readBytes(given, 'log key')).toString('utf8')
  try {
    return text
      .split('\n')
      .filter((line) => line.trim() !== '')
      .map((line) => parseVerifier(line.trim()))
  } catch (error) {
    if (error instanceof SignetError) throw new UsageError(`the log key cannot be used: ${error.message}`)
    throw error
  }
}

async function readBytes(file: string, what: string): Promise<Buffer> {
  try {
    return await readFile(file)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new UsageError(`cannot read the ${what} ${file}: ${code === 'ENOENT' ? 'there is no such file' : message}`)
  }
}

/** What a file says must not steer a terminal. */
function plain(text: unknown): string {
  return String(text).replaceAll(/\p{Cc}/gu, '\ufffd')
}

function format(file: string, report: ProofReport): string {
  const paint = (style: 'green' | 'red' | 'yellow', text: string): string =>
    styleText(style, text, { stream: process.stdout })
  if (report.result === 'invalid') return `${paint('red', 'INVALID')}  proof ${file}\n  ${plain(report.detail)}\n`
  const title =
    report.result === 'verified'
      ? paint('green', 'verified')
      : `${paint('yellow', 'the proof holds')}, event not checked`
  return [
    `${title}  proof ${file}`,
    `  event   ${plain(report.event_id)}, link ${report.seq} of its chain`,
    `  leaf    ${report.leaf_index} of ${report.tree_size} in the tree of ${plain(report.origin)}, root ${String(report.root).slice(0, 16)}…`,
    ...report.unchecked.map((what) => `  not checked  ${what}`),
    '',
  ].join('\n')
}
