import { createPrivateKey, createPublicKey, generateKeyPairSync, sign } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { openCheckpoint, signCheckpoint } from './checkpoint.ts'
import { EMPTY_ROOT } from './hash.ts'
import {
  formatVerifier,
  NOTE_ALGORITHM,
  noteKeyId,
  openNote,
  parseNote,
  parseVerifier,
  signNote,
  type NoteVerifier,
} from './note.ts'

/** The example of the package that the format comes from (golang.org/x/mod/sumdb/note). */
const EXAMPLE_KEY = 'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW'
const EXAMPLE_TEXT =
  "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
const EXAMPLE = `${EXAMPLE_TEXT}\n\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n`

const log = keyPair('ledger.example.com/signet')
const witness = keyPair('witness.example.org', NOTE_ALGORITHM.cosignature)
const head = { origin: log.verifier.name, size: 20_852_163, root: EMPTY_ROOT, extensions: [] }

function keyPair(name: string, algorithm: NoteVerifier['algorithm'] = NOTE_ALGORITHM.ed25519) {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  return { privateKey, verifier: { name, algorithm, keyId: noteKeyId(name, algorithm, publicKey), publicKey } }
}

/** What a witness adds, as c2sp.org/tlog-cosignature says. */
function cosigned(note: string, seconds: bigint): string {
  const { text } = parseNote(note)
  const bytes = Buffer.alloc(12)
  bytes.writeUInt32BE(witness.verifier.keyId)
  bytes.writeBigUInt64BE(seconds, 4)
  const signature = sign(null, Buffer.from(`cosignature/v1\ntime ${seconds}\n${text}`), witness.privateKey)
  return `${note}\u2014 ${witness.verifier.name} ${Buffer.concat([bytes, signature]).toString('base64')}\n`
}

describe('a signed note', () => {
  test('the published example opens with its published key', () => {
    const verifier = parseVerifier(EXAMPLE_KEY)
    expect(formatVerifier(verifier)).toBe(EXAMPLE_KEY)
    expect(openNote(EXAMPLE, [verifier])).toEqual({ text: EXAMPLE_TEXT, signedBy: ['PeterNeumann'] })
  })

  test('a flipped byte of the text, an unknown key and no key are not trusted', () => {
    const verifier = parseVerifier(EXAMPLE_KEY)
    const untrusted = expect.objectContaining({ code: 'NOTE_UNTRUSTED' })
    expect(() => openNote(EXAMPLE.replace('problem,', 'problem.'), [verifier])).toThrowError(untrusted)
    expect(() => openNote(EXAMPLE, [log.verifier])).toThrowError(untrusted)
    expect(() => openNote(EXAMPLE, [])).toThrowError(untrusted)
  })

  test.each([
    { name: 'no signature', note: EXAMPLE_TEXT },
    { name: 'no line feed at the end', note: EXAMPLE.slice(0, -1) },
    { name: 'a hyphen for the dash', note: EXAMPLE.replace('\u2014', '-') },
    { name: 'a control character', note: EXAMPLE.replace('think', 'th\u0000ink') },
    { name: 'another line among the signatures', note: `${EXAMPLE}hello\n` },
    { name: 'bits left over in base64', note: EXAMPLE.replace('JnAM=', 'JnAN=') },
    { name: 'too many signatures', note: EXAMPLE + EXAMPLE.slice(EXAMPLE.indexOf('\u2014')).repeat(100) },
  ])('$name is no note', ({ note }) => {
    expect(() => parseNote(note)).toThrowError(expect.objectContaining({ code: 'NOTE_INVALID' }))
  })

  test.each(['', 'a+b', EXAMPLE_KEY.replace('c74f20a3', 'c74f20a4'), EXAMPLE_KEY.replace('+ARp', '+CRp')])(
    '%j is no verifier',
    (text) => {
      expect(() => parseVerifier(text)).toThrowError(expect.objectContaining({ code: 'NOTE_INVALID' }))
    },
  )
})

describe('a checkpoint', () => {
  test('opens for who knows the log', () => {
    expect(openCheckpoint(signCheckpoint(head, log.privateKey), log.verifier)).toEqual({ head, witnessedBy: [] })
  })

  test('a witness signs it as well, with the time', () => {
    const note = cosigned(signCheckpoint(head, log.privateKey), 1_700_000_000n)
    expect(openCheckpoint(note, log.verifier, [witness.verifier]).witnessedBy).toEqual([witness.verifier.name])
  })

  test('a witness alone is not the log, and another log is not this one', () => {
    const other = keyPair('other.example.com')
    const foreign = signNote(`${other.verifier.name}\n1\n${EMPTY_ROOT.toString('base64')}\n`, {
      name: log.verifier.name,
      privateKey: log.privateKey,
    })
    const untrusted = expect.objectContaining({ code: 'NOTE_UNTRUSTED' })
    expect(() => openCheckpoint(foreign, log.verifier)).toThrowError(untrusted)
    expect(() =>
      openCheckpoint(signCheckpoint({ ...head, origin: other.verifier.name }, other.privateKey), log.verifier),
    ).toThrowError(untrusted)
  })

  test('a witness of the log’s own name is not the log', () => {
    const impostor = keyPair(log.verifier.name)
    const forged = signCheckpoint({ ...head, size: 1 }, impostor.privateKey)
    const untrusted = expect.objectContaining({ code: 'NOTE_UNTRUSTED' })
    expect(() => openCheckpoint(forged, log.verifier, [impostor.verifier])).toThrowError(untrusted)
  })

  test.each([
    { name: 'a size with a sign', text: `o\n-1\n${EMPTY_ROOT.toString('base64')}\n` },
    { name: 'a size with zeros before', text: `o\n01\n${EMPTY_ROOT.toString('base64')}\n` },
    { name: 'a short root', text: 'o\n1\nAAAA\n' },
    { name: 'an empty line', text: `o\n1\n${EMPTY_ROOT.toString('base64')}\n\nx\n` },
  ])('$name is refused', ({ text }) => {
    const { privateKey } = log
    const publicKey = createPublicKey(createPrivateKey(privateKey.export({ format: 'pem', type: 'pkcs8' })))
    const verifier: NoteVerifier = {
      name: 'o',
      algorithm: NOTE_ALGORITHM.ed25519,
      keyId: noteKeyId('o', NOTE_ALGORITHM.ed25519, publicKey),
      publicKey,
    }
    expect(() => openCheckpoint(signNote(text, { name: 'o', privateKey }), verifier)).toThrowError(
      expect.objectContaining({ code: 'NOTE_INVALID' }),
    )
  })
})
