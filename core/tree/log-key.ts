import type { KeyObject } from 'node:crypto'
import { SignetError } from '../error/signet-error.ts'
import { openCheckpoint, type TreeHead } from './checkpoint.ts'
import { NOTE_ALGORITHM, noteKeyId, parseNote, type NoteVerifier } from './note.ts'

/** Public keys (Ed25519) that a log may sign its checkpoints with, one after the other: a ledger's ack keys. */
export type LogKeys = readonly KeyObject[]

/** One of a log's keys, as https://c2sp.org/signed-note names it. */
export function logVerifier(origin: string, publicKey: KeyObject): NoteVerifier {
  const algorithm = NOTE_ALGORITHM.ed25519
  return { name: origin, algorithm, keyId: noteKeyId(origin, algorithm, publicKey), publicKey }
}

/**
 * Opens a checkpoint that one of `verifiers` signed, each of which is the log under one of its keys.
 * @throws SignetError NOTE_INVALID, NOTE_UNTRUSTED
 */
export function openLogCheckpoint(note: string, verifiers: readonly NoteVerifier[]): TreeHead {
  const { signatures } = parseNote(note)
  const log = verifiers.find((known) =>
    signatures.some(({ name, keyId }) => name === known.name && keyId === known.keyId),
  )
  if (log === undefined)
    throw new SignetError('NOTE_UNTRUSTED', 'no key of the log that is known here signed this checkpoint')
  return openCheckpoint(note, log).head
}

/** The name of the log that a checkpoint says it is of; nothing vouches for it yet. @throws SignetError NOTE_INVALID */
export function claimedOrigin(note: string): string {
  return parseNote(note).text.split('\n', 1)[0] ?? ''
}
