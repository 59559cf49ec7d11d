import type { KeyObject } from 'node:crypto'
import { SignetError } from '../error/signet-error.ts'
import { openNote, signNote, type NoteVerifier } from './note.ts'

/** A tree at one size, as https://c2sp.org/tlog-checkpoint writes it: origin, size, root, and lines that others may add. */
export type TreeHead = {
  /** Name of the log, unique, without a scheme: `ledger.example.com/signet`. */
  readonly origin: string
  readonly size: number
  /** 32 bytes. */
  readonly root: Buffer
  readonly extensions: readonly string[]
}

/** Signed by the log under its origin. @throws SignetError NOTE_INVALID */
export function signCheckpoint(head: TreeHead, privateKey: KeyObject): string {
  return signNote(formatHead(head), { name: head.origin, privateKey })
}

/**
 * A checkpoint of `log` (whose name is the origin), signed by it, with the witnesses among `witnesses` that signed it as well.
 * @throws SignetError NOTE_INVALID, NOTE_UNTRUSTED
 */
export function openCheckpoint(
  note: string,
  log: NoteVerifier,
  witnesses: readonly NoteVerifier[] = [],
): { head: TreeHead; witnessedBy: readonly string[] } {
  // By itself first: a witness chooses its own name, and could choose the log's.
  const { text } = openNote(note, [log])
  const head = parseHead(text)
  if (head.origin !== log.name)
    throw new SignetError('NOTE_UNTRUSTED', `the checkpoint is of another log, not of ${log.name}`)
  const others = witnesses.filter(({ name }) => name !== log.name)
  return {
    head,
    witnessedBy:
      others.length === 0 ? [] : openNote(note, [log, ...others]).signedBy.filter((name) => name !== log.name),
  }
}

function formatHead({ origin, size, root, extensions }: TreeHead): string {
  const text = [origin, String(size), root.toString('base64'), ...extensions].map((line) => `${line}\n`).join('')
  parseHead(text)
  return text
}

function parseHead(text: string): TreeHead {
  const [origin = '', size = '', root = '', ...extensions] = text.slice(0, -1).split('\n')
  const bytes = Buffer.from(root, 'base64')
  const valid =
    origin !== '' &&
    /^(0|[1-9]\d{0,15})$/.test(size) &&
    Number.isSafeInteger(Number(size)) &&
    bytes.length === 32 &&
    bytes.toString('base64') === root &&
    extensions.every((line) => line !== '')
  if (!valid)
    throw new SignetError(
      'NOTE_INVALID',
      'a checkpoint is an origin, a size and a root in base64, a line each (c2sp.org/tlog-checkpoint)',
    )
  return { origin, size: Number(size), root: bytes, extensions }
}
