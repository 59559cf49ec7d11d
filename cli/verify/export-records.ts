import { createHash, type Hash } from 'node:crypto'
import { TextDecoder } from 'node:util'
import { formatDigest } from '#core/crypto/digest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { CsvReader } from '#core/export/csv.ts'
import {
  CSV_COLUMNS,
  MAX_LINE_BYTES,
  readCsvRow,
  readProofLine,
  readRecordLine,
  type ExportedProof,
  type ExportedRecord,
} from '#core/export/line.ts'
import type { ExportFormat } from '#core/export/manifest.ts'
import { leafHash } from '#core/tree/hash.ts'
import { verifyInclusion } from '#core/tree/proof.ts'

/** A file as it was read: what the manifest has to say of it, too. */
export type MeasuredFile = { readonly name: string; readonly bytes: number; readonly sha256: string }

/** `chain`: digest over number, commitment and link of each, by which records and proofs are compared. */
export type ReadRecords = { count: number; exact: number; scrubbed: number; tenants: Set<string>; chain: string }
export type ReadProofs = { count: number; chain: string }

/** Passes chunks on and knows afterwards what they were. */
export class Measured {
  readonly #name: string
  readonly #hash: Hash = createHash('sha256')
  #bytes = 0

  constructor(name: string) {
    this.#name = name
  }

  async *pass(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of chunks) {
      this.#hash.update(chunk)
      this.#bytes += chunk.length
      yield chunk
    }
  }

  /** Once, at the end. */
  get file(): MeasuredFile {
    return { name: this.#name, bytes: this.#bytes, sha256: formatDigest(this.#hash.digest()) }
  }
}

/**
 * Reads all records and recomputes the commitment of each whose bytes are exact. @throws SignetError EXPORT_INVALID
 */
export async function checkRecords(format: ExportFormat, chunks: AsyncIterable<Buffer>): Promise<ReadRecords> {
  const chain = createHash('sha256')
  const read: Omit<ReadRecords, 'chain'> = { count: 0, exact: 0, scrubbed: 0, tenants: new Set() }
  let last = 0
  for await (const record of format === 'csv' ? csvRecords(chunks) : jsonRecords(format, chunks)) {
    const { seq, nonce, commitment, record: text, scrubbed } = record
    if (seq <= last) throw invalid(`record ${seq} follows record ${last}: records are in the order of the chain`)
    last = seq
    // A nonce beside scrubbed bytes proves nothing, and bytes without one that are not said to be scrubbed cannot be checked.
    if ((nonce === null) !== scrubbed.length > 0)
      throw invalid(
        `record ${seq} is ${nonce === null ? 'without its nonce and not' : 'with its nonce and'} said to be scrubbed`,
      )
    if (
      nonce !== null &&
      createHash('sha256').update(Buffer.from(nonce, 'hex')).update(text).digest('hex') !== commitment
    )
      throw invalid(`record ${seq} is not what the chain committed to`)
    read.count += 1
    if (nonce === null) read.scrubbed += 1
    else read.exact += 1
    if (read.tenants.size < 3) read.tenants.add((JSON.parse(text) as { event: { tenant: string } }).event.tenant)
    chain.update(joint(record))
  }
  return { ...read, chain: chain.digest('hex') }
}

/** Checks each proof against the tree of the checkpoint. @throws SignetError EXPORT_INVALID, TREE_PROOF_INVALID */
export async function checkProofs(
  chunks: AsyncIterable<Buffer>,
  tree: { readonly size: number; readonly root: Buffer },
): Promise<ReadProofs> {
  const chain = createHash('sha256')
  let count = 0
  for await (const line of lines(chunks)) {
    const proof = readProofLine(line)
    const leaf = leafHash(Buffer.concat([Buffer.from(proof.commitment, 'hex'), Buffer.from(proof.link_hash, 'hex')]))
    const path = proof.inclusion_path.map((hash) => Buffer.from(hash, 'hex'))
    try {
      verifyInclusion({ index: proof.leaf_index, size: tree.size, leafHash: leaf, root: tree.root, path })
    } catch (error) {
      if (error instanceof SignetError)
        throw new SignetError('TREE_PROOF_INVALID', `record ${proof.seq} is not in the log: ${error.message}`)
      throw error
    }
    count += 1
    chain.update(joint(proof))
  }
  return { count, chain: chain.digest('hex') }
}

function joint({ seq, commitment, link_hash }: ExportedRecord | ExportedProof): string {
  return `${seq} ${commitment} ${link_hash}\n`
}

async function* jsonRecords(format: 'ndjson' | 'json', chunks: AsyncIterable<Buffer>): AsyncGenerator<ExportedRecord> {
  if (format === 'ndjson') {
    for await (const line of lines(chunks)) yield readRecordLine(line)
    return
  }
  // An array as it is written: a bracket, a record a line with commas between (an empty line where there is none), a bracket.
  let place: 'open' | 'first' | 'next' | 'last' | 'closed' = 'open'
  for await (const line of lines(chunks)) {
    if (place === 'open' && line === '[') place = 'first'
    else if (place === 'first' && line === '') place = 'last'
    else if (place === 'last' && line === ']') place = 'closed'
    else if (place === 'first' || place === 'next') {
      place = line.endsWith(',') ? 'next' : 'last'
      yield readRecordLine(place === 'next' ? line.slice(0, -1) : line)
    } else throw invalid('records.json is not written as an export writes it')
  }
  if (place !== 'closed') throw invalid('records.json is cut off')
}

async function* csvRecords(chunks: AsyncIterable<Buffer>): AsyncGenerator<ExportedRecord> {
  const reader = new CsvReader(MAX_LINE_BYTES)
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  let isHeader = true
  for await (const chunk of chunks) {
    for (const row of reader.push(decode(decoder, chunk, true))) {
      if (!isHeader) yield readCsvRow(row)
      else if (row.join(',') !== CSV_COLUMNS.join(','))
        throw invalid('the columns of records.csv are not those of an export')
      isHeader = false
    }
  }
  decode(decoder, Buffer.alloc(0), false)
  reader.end()
  if (isHeader) throw invalid('records.csv has no header')
}

/** Lines without their line feeds; each is ended. */
async function* lines(chunks: AsyncIterable<Buffer>): AsyncGenerator<string> {
  const parts: Buffer[] = []
  let length = 0
  for await (const chunk of chunks) {
    let start = 0
    for (let feed = chunk.indexOf(10); feed !== -1; feed = chunk.indexOf(10, start)) {
      parts.push(chunk.subarray(start, feed))
      yield decode(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }), Buffer.concat(parts), false)
      parts.length = 0
      length = 0
      start = feed + 1
    }
    if (start < chunk.length) parts.push(chunk.subarray(start))
    length += chunk.length - start
    if (length > MAX_LINE_BYTES) throw invalid(`a line has more than ${MAX_LINE_BYTES} bytes`)
  }
  if (length > 0) throw invalid('the last line is not ended')
}

function decode(decoder: TextDecoder, bytes: Buffer, stream: boolean): string {
  try {
    return decoder.decode(bytes, { stream })
  } catch {
    throw invalid('a file is not UTF-8')
  }
}

function invalid(what: string): SignetError {
  return new SignetError('EXPORT_INVALID', what)
}
