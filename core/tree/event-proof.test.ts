import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { signCheckpoint } from './checkpoint.ts'
import { parseEventProof, verifyEventProof, type EventProof } from './event-proof.ts'
import { leafHash, nodeHash } from './hash.ts'
import { logVerifier } from './log-key.ts'
import { inclusionProof, rootHash, type NodeReader } from './proof.ts'

const { privateKey, publicKey } = generateKeyPairSync('ed25519')
const LOG = [
  logVerifier('log.example', generateKeyPairSync('ed25519').publicKey),
  logVerifier('log.example', publicKey),
]
const SIZE = 1_000_003
const leafAt = (index: number): Buffer => Buffer.alloc(64, index % 256)
/** A large tree, all of whose leaves repeat: complete subtrees need be computed once for each level. */
const nodes = new Map<string, Buffer>()
const read: NodeReader = (level, index) => {
  const key = `${level}/${level >= 8 ? 0 : index % 2 ** (8 - level)}`
  let found = nodes.get(key)
  if (found === undefined) {
    found = level === 0 ? leafHash(leafAt(index)) : nodeHash(read(level - 1, 2 * index), read(level - 1, 2 * index + 1))
    nodes.set(key, found)
  }
  return found
}
const INDEX = 777_777
const proof: EventProof = {
  version: 1,
  event_id: '0af76519-16cd-43dd-8448-eb211c80319c',
  seq: 7,
  commitment: leafAt(INDEX).subarray(0, 32).toString('hex'),
  link_hash: leafAt(INDEX).subarray(32).toString('hex'),
  leaf_index: INDEX,
  inclusion_path: inclusionProof(INDEX, SIZE, read).map((hash) => hash.toString('hex')),
  checkpoint: signCheckpoint(
    { origin: 'log.example', size: SIZE, root: rootHash(SIZE, read), extensions: [] },
    privateKey,
  ),
}
const bytesOf = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))

describe('a proof of an event', () => {
  it('holds, whichever of its keys the log used', () => {
    expect(verifyEventProof(parseEventProof(bytesOf(proof)), LOG)).toMatchObject({
      origin: 'log.example',
      size: SIZE,
      leafIndex: INDEX,
    })
  })

  it('takes less than 5 ms, reading included', () => {
    const bytes = bytesOf(proof)
    const check = (): unknown => verifyEventProof(parseEventProof(bytes), LOG)
    for (let count = 0; count < 20; count++) check()
    const { user } = process.cpuUsage()
    for (let count = 0; count < 100; count++) check()
    expect((process.cpuUsage().user - user) / 1_000 / 100).toBeLessThan(5)
  })

  it.each([
    { what: 'another commitment', change: { commitment: 'a'.repeat(64) }, want: 'TREE_PROOF_INVALID' },
    { what: 'another link', change: { link_hash: 'a'.repeat(64) }, want: 'TREE_PROOF_INVALID' },
    { what: 'another place', change: { leaf_index: INDEX + 1 }, want: 'TREE_PROOF_INVALID' },
    { what: 'a place past the end', change: { leaf_index: SIZE }, want: 'TREE_PROOF_INVALID' },
    { what: 'a shorter path', change: { inclusion_path: proof.inclusion_path.slice(1) }, want: 'TREE_PROOF_INVALID' },
    {
      what: 'another checkpoint',
      change: { checkpoint: proof.checkpoint.replace(`${SIZE}`, `${SIZE + 1}`) },
      want: 'NOTE_UNTRUSTED',
    },
    { what: 'no checkpoint', change: { checkpoint: 'x' }, want: 'NOTE_INVALID' },
    { what: 'a member more', change: { more: 1 }, want: 'TREE_PROOF_INVALID' },
    { what: 'a hash that is none', change: { inclusion_path: ['A'.repeat(64)] }, want: 'TREE_PROOF_INVALID' },
    { what: 'another version', change: { version: 2 }, want: 'TREE_PROOF_INVALID' },
  ])('does not hold with $what', ({ change, want }) => {
    expect(() => verifyEventProof(parseEventProof(bytesOf({ ...proof, ...change })), LOG)).toThrow(
      expect.objectContaining({ code: want }),
    )
  })

  it('is worth nothing signed by another', () => {
    const other = logVerifier('log.example', createPublicKey(generateKeyPairSync('ed25519').privateKey))
    expect(() => verifyEventProof(proof, [other])).toThrow(expect.objectContaining({ code: 'NOTE_UNTRUSTED' }))
    expect(() => verifyEventProof(proof, [logVerifier('other.example', publicKey)])).toThrow(
      expect.objectContaining({ code: 'NOTE_UNTRUSTED' }),
    )
  })
})
