import { createHash, createPublicKey, sign, verify, type KeyObject } from 'node:crypto'
import { SignetError } from '../error/signet-error.ts'

/** Kinds of signature of https://c2sp.org/signed-note: plain Ed25519 (a log's own), timestamped cosignature of a witness. */
export const NOTE_ALGORITHM = { ed25519: 0x01, cosignature: 0x04 } as const
type NoteAlgorithm = (typeof NOTE_ALGORITHM)[keyof typeof NOTE_ALGORITHM]

/** A note's text ends with a line feed; its signatures follow an empty line. */
export type Note = { readonly text: string; readonly signatures: readonly NoteSignature[] }
/** `signature`: the bytes after the four of the key id. */
export type NoteSignature = { readonly name: string; readonly keyId: number; readonly signature: Buffer }

/** Who may have signed: a name without spaces and plus signs, and an Ed25519 public key. */
export type NoteVerifier = {
  readonly name: string
  readonly algorithm: NoteAlgorithm
  readonly keyId: number
  readonly publicKey: KeyObject
}

const MAX_NOTE_BYTES = 1 << 20
const MAX_SIGNATURES = 100
const NAME = /^[^\s+]{1,255}$/u
const SIGNATURE_LINE = /^\u2014 (\S+) ([A-Za-z0-9+/]+={0,2})$/u
/** SubjectPublicKeyInfo of an Ed25519 key without the key (RFC 8410, section 4). */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex')

/** First four bytes of SHA-256(name ‖ LF ‖ algorithm ‖ key), big-endian. */
export function noteKeyId(name: string, algorithm: NoteAlgorithm, publicKey: KeyObject): number {
  return createHash('sha256')
    .update(`${name}\n`)
    .update(Buffer.of(algorithm))
    .update(rawKey(publicKey))
    .digest()
    .readUInt32BE(0)
}

/** `NAME+KEYID+BASE64(algorithm ‖ key)`: how a verifier is published. */
export function formatVerifier({ name, algorithm, keyId, publicKey }: NoteVerifier): string {
  const key = Buffer.concat([Buffer.of(algorithm), rawKey(publicKey)]).toString('base64')
  return `${name}+${keyId.toString(16).padStart(8, '0')}+${key}`
}

/** @throws SignetError NOTE_INVALID */
export function parseVerifier(text: string): NoteVerifier {
  const [name = '', id = '', ...rest] = text.split('+')
  const key = Buffer.from(rest.join('+'), 'base64')
  const algorithm = key[0]
  if (
    !NAME.test(name) ||
    key.length !== 33 ||
    (algorithm !== NOTE_ALGORITHM.ed25519 && algorithm !== NOTE_ALGORITHM.cosignature)
  ) {
    throw invalid('a verifier key is NAME+KEYID+BASE64 of an Ed25519 key (c2sp.org/signed-note)')
  }
  const publicKey = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, key.subarray(1)]), format: 'der', type: 'spki' })
  const verifier: NoteVerifier = { name, algorithm, keyId: noteKeyId(name, algorithm, publicKey), publicKey }
  if (formatVerifier(verifier) !== `${name}+${id}+${rest.join('+')}`)
    throw invalid(`the key id of verifier ${name} does not belong to its key`)
  return verifier
}

/** Signs `text` (ends with a line feed) as `name`. @throws SignetError NOTE_INVALID for a text that cannot be a note's */
export function signNote(text: string, { name, privateKey }: { name: string; privateKey: KeyObject }): string {
  checkText(text)
  if (!NAME.test(name)) throw invalid('a signer’s name has no space and no plus sign')
  const id = Buffer.alloc(4)
  id.writeUInt32BE(noteKeyId(name, NOTE_ALGORITHM.ed25519, createPublicKey(privateKey)))
  return `${text}\n\u2014 ${name} ${Buffer.concat([id, sign(null, Buffer.from(text), privateKey)]).toString('base64')}\n`
}

/** Reads a note without checking its signatures. @throws SignetError NOTE_INVALID */
export function parseNote(note: string): Note {
  if (Buffer.byteLength(note) > MAX_NOTE_BYTES) throw invalid(`a note has at most ${MAX_NOTE_BYTES} bytes`)
  const end = note.lastIndexOf('\n\n')
  if (end < 0 || !note.endsWith('\n')) throw invalid('a note is text, an empty line, and signatures, each line ended')
  const text = note.slice(0, end + 1)
  checkText(text)
  const lines = note.slice(end + 2, -1).split('\n')
  if (lines.length > MAX_SIGNATURES) throw invalid(`a note has at most ${MAX_SIGNATURES} signatures`)
  const signatures = lines.map((line): NoteSignature => {
    const match = SIGNATURE_LINE.exec(line)
    const bytes = Buffer.from(match?.[2] ?? '', 'base64')
    if (match === null || !NAME.test(match[1]!) || bytes.length < 5 || bytes.toString('base64') !== match[2]) {
      throw invalid('a signature line is "— NAME BASE64"')
    }
    return { name: match[1]!, keyId: bytes.readUInt32BE(0), signature: bytes.subarray(4) }
  })
  return { text, signatures }
}

/**
 * The text of a note that one of `verifiers` signed. Signatures by unknown keys are ignored, a wrong one by a known key refuses the note.
 * @throws SignetError NOTE_INVALID, NOTE_UNTRUSTED
 */
export function openNote(
  note: string,
  verifiers: readonly NoteVerifier[],
): { text: string; signedBy: readonly string[] } {
  const { text, signatures } = parseNote(note)
  const signedBy: string[] = []
  for (const { name, keyId, signature } of signatures) {
    const known = verifiers.find((verifier) => verifier.name === name && verifier.keyId === keyId)
    if (known === undefined || signedBy.includes(name)) continue
    if (!isSignedBy(text, signature, known))
      throw new SignetError('NOTE_UNTRUSTED', `the signature of ${name} is wrong`)
    signedBy.push(name)
  }
  if (signedBy.length === 0) throw new SignetError('NOTE_UNTRUSTED', 'no known key signed this note')
  return { text, signedBy }
}

function isSignedBy(text: string, signature: Buffer, { algorithm, publicKey }: NoteVerifier): boolean {
  if (algorithm === NOTE_ALGORITHM.ed25519) return verify(null, Buffer.from(text), publicKey, signature)
  // https://c2sp.org/tlog-cosignature: the time of signing, then a signature over it and the note.
  if (signature.length !== 72) return false
  const message = `cosignature/v1\ntime ${signature.readBigUInt64BE(0)}\n${text}`
  return verify(null, Buffer.from(message), publicKey, signature.subarray(8))
}

function checkText(text: string): void {
  if (!text.endsWith('\n') || !text.isWellFormed()) throw invalid('a note’s text is UTF-8 and ends with a line feed')
  // eslint-disable-next-line no-control-regex -- control characters are what the format forbids
  if (/[\u0000-\u0009\u000b-\u001f\u007f]/u.test(text))
    throw invalid('a note’s text has no control characters but line feeds')
}

function rawKey(publicKey: KeyObject): Buffer {
  if (publicKey.asymmetricKeyType !== 'ed25519') throw invalid('a note is signed with an Ed25519 key')
  return publicKey.export({ format: 'der', type: 'spki' }).subarray(SPKI_PREFIX.length)
}

function invalid(what: string): SignetError {
  return new SignetError('NOTE_INVALID', what)
}
