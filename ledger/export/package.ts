import { createHash, createPublicKey } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { createGzip } from 'node:zlib'
import type { Readable } from 'node:stream'
import { once } from 'node:events'
import { pack, type Pack } from 'tar-stream'
import { canonicalize } from '#core/canonical/jcs.ts'
import { formatDigest } from '#core/crypto/digest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { ExportKeys } from '#core/export/keys.ts'
import { CSV_COLUMNS, formatCsvRow, formatProofLine, formatRecordLine, type ExportedRecord } from '#core/export/line.ts'
import { csvLine } from '#core/export/csv.ts'
import {
  PACKAGE_FILES,
  readManifest,
  recordsFile,
  signManifest,
  type ExportFormat,
  type ExportManifest,
  type Scrubbing,
} from '#core/export/manifest.ts'
import type { JsonValue } from '#core/json/value.ts'
import { formatVerifier, NOTE_ALGORITHM, noteKeyId } from '#core/tree/note.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import type { LedgerKeys } from '../keys.ts'
import type { PersonalReader } from '../seal/reader.ts'
import type { ExportJob } from '../store/exports.ts'
import type { StoredCheckpoint } from '../store/tree.ts'
import { ProofReader } from './proofs.ts'
import { readmeOf } from './readme.ts'
import { filterOf, type ExportPackage } from './request.ts'
import { scanRecords, type ScannedRecord } from './scan.ts'
import { scrubRecord, type Scrubbed } from './scrub.ts'

export type PackageDeps = {
  readonly wall: Pool
  readonly keys: LedgerKeys
  readonly origin: string
  /** Finds people under their references. */
  readonly personal: Pick<PersonalReader, 'expand'>
}

/** What an export may hold. */
export const MAX_RECORDS = 1_000_000
export const MAX_BYTES = 4 * 1024 ** 3
const MAX_PATHS = 1_000
/** Records between two turns of the event loop. */
const RECORDS_A_TURN = 50

/** Digest and length of a file that is never held. */
class Measure {
  #hash = createHash('sha256')
  bytes = 0

  add(text: string): void {
    this.#hash.update(text)
    this.bytes += Buffer.byteLength(text)
  }

  /** Once only. */
  entry(name: string): ExportManifest['files'][number] {
    return { name, bytes: this.bytes, sha256: formatDigest(this.#hash.digest()) }
  }
}

/**
 * Reads all records of a job once and signs what came out. `onProgress` is called after each page with the number of records so far; it may
 * throw to end the work. @throws SignetError CHAIN_BROKEN, EXPORT_FAILED past a limit, LEDGER_KEY_UNAVAILABLE, DATABASE_UNAVAILABLE
 */
export async function buildPackage(
  deps: PackageDeps,
  job: ExportJob,
  checkpoint: StoredCheckpoint,
  at: Date,
  onProgress: (records: number) => Promise<void>,
): Promise<{ package: ExportPackage; manifest: ExportManifest }> {
  const { format, raw, query } = job.request
  const proofs = await ProofReader.open(deps.wall, checkpoint.size)
  const [recordFile, proofFile] = [new Measure(), new Measure()]
  const tally = new ScrubTally(!raw)
  let records = 0
  recordFile.add(opening(format))
  for await (const page of scanRecords(deps.wall, await scopeOf(deps, job))) {
    for (const [index, scanned] of page.entries()) {
      const { text, scrubbed } = exported(scanned, job)
      recordFile.add(`${separator(format, records)}${text}`)
      tally.add(scrubbed)
      records += 1
      if (index % RECORDS_A_TURN === RECORDS_A_TURN - 1) await nextTurn()
    }
    proofFile.add(await proofLines(proofs, page, checkpoint.size))
    if (records > MAX_RECORDS || recordFile.bytes > MAX_BYTES) {
      throw new SignetError(
        'EXPORT_FAILED',
        `more than ${MAX_RECORDS} records or ${MAX_BYTES / 1024 ** 3} GiB are found; ask for a shorter time, one after the other`,
      )
    }
    await onProgress(records)
  }
  recordFile.add(ending(format))
  const key = deps.keys.ackKey(at)
  const stated = {
    version: 1,
    export_id: job.id,
    tenant: job.tenant,
    requested_by: job.requestedBy,
    made_at: at.toISOString(),
    format,
    raw,
    query,
    records,
    head_seq: job.headSeq,
    checkpoint: { origin: deps.origin, size: checkpoint.size },
    scrubbing: tally.sum,
    key_id: key.keyId,
  } as const
  const readme = readmeOf(stated)
  const keys = `${canonicalize(publicKeys(deps))}\n`
  const files = [
    measured(PACKAGE_FILES.readme, readme),
    measured(PACKAGE_FILES.keys, keys),
    measured(PACKAGE_FILES.checkpoint, checkpoint.note),
    recordFile.entry(recordsFile(format)),
    proofFile.entry(PACKAGE_FILES.proofs),
  ]
  const manifest = signManifest({ ...stated, query: { ...query }, files }, key.privateKey)
  return {
    manifest,
    package: {
      manifest: canonicalize(manifest),
      readme,
      keys,
      checkpoint: checkpoint.note,
      checkpointSize: checkpoint.size,
    },
  }
}

/**
 * The archive of a finished export as a stream. Records are read page by page as the reader takes them; a file that does not come out as
 * the manifest says breaks the stream off, as does `check`, called before each page, when it throws.
 */
export function streamPackage(
  deps: PackageDeps,
  job: ExportJob,
  made: ExportPackage,
  check: () => Promise<void>,
): Readable {
  const tar = pack()
  const gzip = createGzip({ level: 6 })
  tar.on('error', (error) => gzip.destroy(error))
  // A reader that goes away ends the reading too.
  gzip.on('close', () => tar.destroy())
  tar.pipe(gzip)
  writeFiles(deps, job, made, check, tar).then(
    () => tar.finalize(),
    (error: unknown) => tar.destroy(error instanceof Error ? error : new Error('the export broke off')),
  )
  return gzip
}

async function writeFiles(
  deps: PackageDeps,
  job: ExportJob,
  made: ExportPackage,
  check: () => Promise<void>,
  tar: Pack,
): Promise<void> {
  const { format } = job.request
  const manifest = readManifest(Buffer.from(made.manifest))
  const mtime = new Date(manifest.made_at)
  const fileOf = (name: string): ExportManifest['files'][number] => {
    const file = manifest.files.find((one) => one.name === name)
    if (file === undefined) throw new SignetError('INTERNAL', `the manifest lists no ${name}`)
    return file
  }
  const small = (name: string, content: string | Buffer): void => {
    tar.entry({ name, size: Buffer.byteLength(content), mode: 0o644, mtime, type: 'file' }, content)
  }
  const large = async (name: string, chunks: AsyncIterable<string>): Promise<void> => {
    const stated = fileOf(name)
    const measure = new Measure()
    const entry = tar.entry({ name, size: stated.bytes, mode: 0o644, mtime, type: 'file' })
    // It ends with the archive, whose listener has the reason; without one here the process would end.
    entry.on('error', () => undefined)
    for await (const chunk of chunks) {
      measure.add(chunk)
      // More than was announced must not run on into the next header.
      if (measure.bytes > stated.bytes) break
      if (!entry.write(chunk)) await drained(entry, tar)
    }
    if (measure.bytes !== stated.bytes || measure.entry(name).sha256 !== stated.sha256)
      throw new SignetError('CHAIN_BROKEN', `${name} does not come out as it did when the export was made`)
    entry.end(null)
  }
  small(PACKAGE_FILES.readme, made.readme)
  small(PACKAGE_FILES.keys, made.keys)
  small(PACKAGE_FILES.checkpoint, made.checkpoint)
  await large(recordsFile(format), recordChunks(deps, job, check))
  await large(PACKAGE_FILES.proofs, proofChunks(deps, job, made.checkpointSize, check))
  small(PACKAGE_FILES.manifest, made.manifest)
  if (made.timestamp !== undefined) small(PACKAGE_FILES.timestamp, Buffer.from(made.timestamp, 'base64'))
}

async function drained(entry: NodeJS.EventEmitter, tar: Pack): Promise<void> {
  const over = new AbortController()
  const closed = (): void => over.abort()
  tar.once('close', closed)
  try {
    if (tar.destroyed) over.abort()
    await once(entry, 'drain', { signal: over.signal })
  } finally {
    tar.off('close', closed)
  }
}

async function* recordChunks(deps: PackageDeps, job: ExportJob, check: () => Promise<void>): AsyncGenerator<string> {
  const { format } = job.request
  let records = 0
  yield opening(format)
  for await (const page of scanRecords(deps.wall, await scopeOf(deps, job))) {
    await check()
    for (const [index, scanned] of page.entries()) {
      yield `${separator(format, records)}${exported(scanned, job).text}`
      records += 1
      if (index % RECORDS_A_TURN === RECORDS_A_TURN - 1) await nextTurn()
    }
  }
  yield ending(format)
}

async function* proofChunks(
  deps: PackageDeps,
  job: ExportJob,
  size: number,
  check: () => Promise<void>,
): AsyncGenerator<string> {
  const proofs = await ProofReader.open(deps.wall, size)
  for await (const page of scanRecords(deps.wall, await scopeOf(deps, job))) {
    await check()
    yield await proofLines(proofs, page, size)
  }
}

async function proofLines(proofs: ProofReader, page: readonly ScannedRecord[], size: number): Promise<string> {
  const late = page.find(({ leafIndex }) => leafIndex >= size)
  if (late !== undefined)
    throw new SignetError('CHAIN_BROKEN', `record ${late.seq} is not in the tree of the checkpoint`)
  const paths = await proofs.paths(page.map(({ leafIndex }) => leafIndex))
  return page
    .map(({ seq, commitment, linkHash, leafIndex }, index) => {
      const line = formatProofLine({
        seq,
        commitment: commitment.toString('hex'),
        link_hash: linkHash.toString('hex'),
        leaf_index: leafIndex,
        inclusion_path: (paths[index] ?? []).map((hash) => hash.toString('hex')),
      })
      return `${line}\n`
    })
    .join('')
}

/** A record as its file has it, and what was scrubbed from it. */
function exported(scanned: ScannedRecord, job: ExportJob): { text: string; scrubbed: readonly Scrubbed[] } {
  const { seq, nonce, bytes, record, commitment, linkHash } = scanned
  const { raw, format } = job.request
  const sealed = record as unknown as JsonValue
  const { value, scrubbed } = raw ? { value: sealed, scrubbed: [] } : scrubRecord(sealed)
  const line: ExportedRecord = {
    seq,
    event_id: record.event.event_id,
    commitment: commitment.toString('hex'),
    link_hash: linkHash.toString('hex'),
    nonce: scrubbed.length === 0 ? nonce.toString('hex') : null,
    record: scrubbed.length === 0 ? bytes.toString('utf8') : canonicalize(value),
    scrubbed,
  }
  const text = format === 'csv' ? formatCsvRow(line, value) : formatRecordLine(line)
  return { text: format === 'ndjson' ? `${text}\n` : text, scrubbed }
}

const opening = (format: ExportFormat): string =>
  format === 'csv' ? csvLine(CSV_COLUMNS) : format === 'json' ? '[\n' : ''
const separator = (format: ExportFormat, before: number): string => (format === 'json' && before > 0 ? ',\n' : '')
const ending = (format: ExportFormat): string => (format === 'json' ? '\n]\n' : '')

async function scopeOf({ personal }: PackageDeps, job: ExportJob) {
  const filter = await personal.expand(job.tenant, filterOf(job.request.query))
  return { tenant: job.tenant, filter, headSeq: job.headSeq }
}

function measured(name: string, content: string): ExportManifest['files'][number] {
  const measure = new Measure()
  measure.add(content)
  return measure.entry(name)
}

function publicKeys({ keys, origin }: PackageDeps): ExportKeys {
  const ackKeys = keys.publicAckKeys()
  return {
    version: 1,
    log_verifiers: ackKeys.map(({ public_key }) => {
      const publicKey = createPublicKey({ key: Buffer.from(public_key, 'base64url'), format: 'der', type: 'spki' })
      const algorithm = NOTE_ALGORITHM.ed25519
      return formatVerifier({ name: origin, algorithm, keyId: noteKeyId(origin, algorithm, publicKey), publicKey })
    }),
    ack_keys: [...ackKeys],
    workload_cas: [...keys.publicWorkloadCas()],
  }
}

class ScrubTally {
  readonly #applied: boolean
  #records = 0
  #values = 0
  #morePaths = false
  readonly #kinds = new Map<string, number>()
  readonly #paths = new Map<string, number>()

  constructor(applied: boolean) {
    this.#applied = applied
  }

  add(scrubbed: readonly Scrubbed[]): void {
    if (scrubbed.length > 0) this.#records += 1
    this.#values += scrubbed.length
    for (const { kind, path } of scrubbed) {
      this.#kinds.set(kind, (this.#kinds.get(kind) ?? 0) + 1)
      const place = path.slice(0, 200).toWellFormed()
      const known = this.#paths.get(place)
      if (known === undefined && this.#paths.size >= MAX_PATHS) this.#morePaths = true
      else this.#paths.set(place, (known ?? 0) + 1)
    }
  }

  get sum(): Scrubbing {
    return {
      applied: this.#applied,
      records: this.#records,
      values: this.#values,
      kinds: Object.fromEntries(this.#kinds),
      paths: Object.fromEntries(this.#paths),
      more_paths: this.#morePaths,
    }
  }
}
