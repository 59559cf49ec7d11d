import { createPublicKey, type KeyObject, type X509Certificate } from 'node:crypto'
import { closeSync, existsSync, openSync, readSync } from 'node:fs'
import { styleText } from 'node:util'
import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'
import { ExportKeys } from '#core/export/keys.ts'
import {
  EXPORT_FORMATS,
  isManifestSignedBy,
  PACKAGE_FILES,
  readManifest,
  recordsFile,
  type ExportFormat,
  type ExportManifest,
} from '#core/export/manifest.ts'
import { parseStrict } from '#core/json/strict.ts'
import { openCheckpoint, type TreeHead } from '#core/tree/checkpoint.ts'
import { parseVerifier, type NoteVerifier } from '#core/tree/note.ts'
import type { VerifiedTimestamp } from '#runtime/timestamp/rfc3161.ts'
import { EXIT, UsageError } from '../usage.ts'
import { readArchive, type ArchiveFile } from './export-archive.ts'
import {
  checkProofs,
  checkRecords,
  Measured,
  type MeasuredFile,
  type ReadProofs,
  type ReadRecords,
} from './export-records.ts'

type ExportReport = {
  readonly result: 'verified' | 'key-unchecked' | 'invalid'
  readonly source: string
  readonly code?: string
  readonly detail?: string
  /** The verifier that signed the checkpoint, and whether somebody else than the package named it. */
  readonly log_key?: string
  readonly tenant?: string
  readonly records?: number
  /** Records whose commitment was recomputed from their bytes, and those whose bytes were scrubbed. */
  readonly exact?: number
  readonly scrubbed?: number
  readonly checkpoint?: { readonly origin: string; readonly size: number; readonly root: string }
  readonly manifest?: ExportManifest
  /** Null: the package has none. */
  readonly timestamp?: { readonly time: string; readonly authority: string; readonly trusted: boolean } | null
  readonly unchecked?: readonly string[]
}

const SMALL_BYTES = 16 * 1024 * 1024
const LARGE_BYTES = 8 * 1024 ** 3
const keysValidator = Compile(ExportKeys)
/** How far the clocks of ledger and authority may be from each other. */
const CLOCKS_APART_MS = 5 * 60 * 1000
const GZIP_MAGIC = Buffer.of(0x1f, 0x8b)

/** Whether a FILE is to be checked as an export: it is gzip, which holds no stamp inside, and has none beside it. */
export function looksLikeExport(file: string): boolean {
  if (existsSync(`${file}.stamp.json`)) return false
  let descriptor: number
  try {
    descriptor = openSync(file, 'r')
  } catch {
    return false
  }
  try {
    const start = Buffer.alloc(2)
    return readSync(descriptor, start, 0, 2, 0) === 2 && start.equals(GZIP_MAGIC)
  } catch {
    return false
  } finally {
    closeSync(descriptor)
  }
}

/**
 * Checks an export package with nothing but its file: signature, digests, commitments, proofs, checkpoint. `logKeys`: verifiers that the
 * caller knows from elsewhere; without any, those in the package are believed, which the report says. Gives the exit code.
 */
export async function verifyExport(
  file: string,
  options: {
    readonly logKeys: readonly NoteVerifier[]
    /** Roots of time-stamp authorities that the caller believes. */
    readonly tsaRoots: readonly X509Certificate[]
    readonly json: boolean
    readonly tenant: string | undefined
  },
): Promise<number> {
  const report = await checkExport(file, options)
  process.stdout.write(options.json ? `${JSON.stringify(report, null, 2)}\n` : format(report))
  return { verified: EXIT.verified, 'key-unchecked': EXIT.unchecked, invalid: EXIT.invalid }[report.result]
}

async function checkExport(
  source: string,
  {
    logKeys,
    tsaRoots,
    tenant,
  }: {
    readonly logKeys: readonly NoteVerifier[]
    readonly tsaRoots: readonly X509Certificate[]
    readonly tenant: string | undefined
  },
): Promise<ExportReport> {
  try {
    const read = await readPackage(source, logKeys)
    const { manifest, records, log, head } = read
    checkManifest(read, logKeys)
    if (tenant !== undefined && manifest.tenant !== tenant)
      throw new SignetError('EXPORT_INVALID', `the export is of the tenant ${manifest.tenant}, not of ${tenant}`)
    const timestamp = await checkTimestamp(read, tsaRoots)
    const unchecked = [
      ...(timestamp !== null && !timestamp.trusted
        ? ['whether its time-stamp authority is to be believed: name its root with --tsa-root']
        : []),
      ...(logKeys.length === 0 ? ['that the keys are the ledger’s: they came with the package'] : []),
      ...(tenant === undefined && logKeys.length === 0 ? ['whose records these are'] : []),
    ]
    return {
      result: logKeys.length === 0 ? 'key-unchecked' : 'verified',
      source,
      log_key: log,
      tenant: manifest.tenant,
      records: records.count,
      exact: records.exact,
      scrubbed: records.scrubbed,
      checkpoint: { origin: head.origin, size: head.size, root: head.root.toString('base64') },
      manifest,
      timestamp:
        timestamp === null
          ? null
          : { time: timestamp.time.toISOString(), authority: timestamp.authority, trusted: timestamp.trusted },
      unchecked,
    }
  } catch (error) {
    if (error instanceof SignetError) return { result: 'invalid', source, code: error.code, detail: error.message }
    if (error instanceof Error && 'syscall' in error) throw new UsageError(`cannot read ${source}: ${error.message}`)
    throw error
  }
}

type ReadPackage = {
  readonly keys: ExportKeys
  readonly head: TreeHead
  /** The verifier of the checkpoint, and all that are believed. */
  readonly log: string
  readonly format: ExportFormat
  readonly records: ReadRecords
  readonly proofs: ReadProofs
  readonly manifest: ExportManifest
  readonly manifestBytes: Buffer
  /** RFC 3161 token; null where the package has none. */
  readonly token: Buffer | null
  readonly files: readonly MeasuredFile[]
}

/** One pass over the archive: each file is checked as it comes, which the order of the files allows. */
async function readPackage(source: string, logKeys: readonly NoteVerifier[]): Promise<ReadPackage> {
  const files: MeasuredFile[] = []
  let keys: ExportKeys | null = null
  let opened: { head: TreeHead; log: string } | null = null
  let format: ExportFormat | null = null
  let records: ReadRecords | null = null
  let proofs: ReadProofs | null = null
  let manifest: ExportManifest | null = null
  let manifestBytes: Buffer = Buffer.alloc(0)
  let token: Buffer | null = null

  for await (const file of readArchive(source, sizeLimit)) {
    const measured = new Measured(file.name)
    const chunks = measured.pass(file.chunks)
    switch (file.name) {
      case PACKAGE_FILES.readme:
        await whole(chunks, file)
        break
      case PACKAGE_FILES.keys:
        keys = readKeys(await whole(chunks, file))
        break
      case PACKAGE_FILES.checkpoint: {
        const believed = logKeys.length > 0 ? logKeys : (keys?.log_verifiers ?? []).map((text) => parseVerifier(text))
        opened = openWithAny((await whole(chunks, file)).toString('utf8'), believed)
        break
      }
      case PACKAGE_FILES.proofs:
        proofs = await checkProofs(chunks, opened?.head ?? { size: 0, root: Buffer.alloc(32) })
        break
      case PACKAGE_FILES.manifest:
        manifestBytes = await whole(chunks, file)
        manifest = readManifest(manifestBytes)
        continue
      case PACKAGE_FILES.timestamp:
        token = await whole(chunks, file)
        continue
      default:
        format = EXPORT_FORMATS.find((one) => recordsFile(one) === file.name) ?? null
        if (format !== null) records = await checkRecords(format, chunks)
    }
    files.push(measured.file)
  }
  if (keys === null || opened === null || format === null || records === null || proofs === null || manifest === null)
    throw new SignetError('EXPORT_INVALID', 'the archive does not have all its files')
  return { keys, ...opened, format, records, proofs, manifest, manifestBytes, token, files }
}

/** The names of an export, each in its place. */
function sizeLimit(name: string, index: number): number | null {
  const large =
    index === 3 ? EXPORT_FORMATS.some((one) => recordsFile(one) === name) : index === 4 && name === PACKAGE_FILES.proofs
  if (large) return LARGE_BYTES
  const { readme, keys, checkpoint, manifest, timestamp } = PACKAGE_FILES
  const small = [readme, keys, checkpoint, null, null, manifest, timestamp]
  return small[index] === name ? SMALL_BYTES : null
}

/** The token is over the manifest as it is; what it says of the time counts only with a root that is believed. */
async function checkTimestamp(
  { token, manifestBytes, manifest }: ReadPackage,
  roots: readonly X509Certificate[],
): Promise<VerifiedTimestamp | null> {
  if (token === null) {
    if (roots.length > 0) throw new SignetError('EXPORT_INVALID', 'the export has no time stamp')
    return null
  }
  // Loaded where it is needed: a stamp is verified without it.
  const { verifyTimestamp } = await import('#runtime/timestamp/rfc3161.ts')
  const verified = await verifyTimestamp(token, manifestBytes, roots)
  if (verified.time.getTime() < Date.parse(manifest.made_at) - CLOCKS_APART_MS)
    throw new SignetError('EXPORT_INVALID', 'the time stamp is older than the export says that it is')
  return verified
}

function readKeys(bytes: Buffer): ExportKeys {
  const value: unknown = parseStrict(bytes)
  if (!keysValidator.Check(value)) throw new SignetError('EXPORT_INVALID', 'keys.json does not have its form')
  return value
}

function openWithAny(note: string, believed: readonly NoteVerifier[]): { head: TreeHead; log: string } {
  for (const verifier of believed) {
    try {
      const { head } = openCheckpoint(note, verifier)
      return { head, log: `${verifier.name}+${verifier.keyId.toString(16).padStart(8, '0')}` }
    } catch (error) {
      if (!(error instanceof SignetError) || error.code !== 'NOTE_UNTRUSTED') throw error
    }
  }
  throw new SignetError('EXPORT_UNTRUSTED', 'the checkpoint is not signed by a key of the log that is known')
}

/** What the manifest says is what is there, and a key that is believed says so. */
function checkManifest(read: ReadPackage, logKeys: readonly NoteVerifier[]): void {
  const { manifest, files, records, proofs, head, format, keys } = read
  const believed = logKeys.length > 0 ? logKeys.map(({ publicKey }) => publicKey) : keysOf(manifest, keys)
  if (!believed.some((key) => isManifestSignedBy(manifest, key)))
    throw new SignetError('EXPORT_UNTRUSTED', 'manifest.json is not signed by a key of the log that is known')
  const fault = (what: string): SignetError => new SignetError('EXPORT_INVALID', what)
  if (manifest.files.length !== files.length) throw fault('manifest.json does not list the files of the package')
  for (const [index, { name, bytes, sha256 }] of files.entries()) {
    const stated = manifest.files[index]
    if (stated?.name !== name || stated.bytes !== bytes || stated.sha256 !== sha256)
      throw fault(`${name} is not what manifest.json says: it was changed after the export was made`)
  }
  if (manifest.format !== format || manifest.records !== records.count)
    throw fault('manifest.json is of another format, or counts other records')
  if (manifest.checkpoint.size !== head.size || manifest.checkpoint.origin !== head.origin)
    throw fault('manifest.json is of another checkpoint')
  if (records.count !== proofs.count || records.chain !== proofs.chain)
    throw fault('records and proofs are not of the same records')
  if (records.tenants.size > 1 || (records.tenants.size === 1 && !records.tenants.has(manifest.tenant)))
    throw fault('not all records are of the tenant of manifest.json')
  if (manifest.raw && records.scrubbed > 0) throw fault('manifest.json says that nothing was scrubbed')
  if (manifest.scrubbing.records !== records.scrubbed)
    throw fault('manifest.json says that other records were scrubbed')
}

function keysOf(manifest: ExportManifest, keys: ExportKeys): KeyObject[] {
  return keys.ack_keys.flatMap((key) => {
    const isValid =
      key.key_id === manifest.key_id &&
      key.not_before <= manifest.made_at &&
      manifest.made_at < key.not_after &&
      (key.revoked_at === undefined || manifest.made_at < key.revoked_at)
    if (!isValid) return []
    try {
      return [createPublicKey({ key: Buffer.from(key.public_key, 'base64url'), format: 'der', type: 'spki' })]
    } catch {
      throw new SignetError('EXPORT_INVALID', 'keys.json holds something that is no key')
    }
  })
}

async function whole(chunks: AsyncIterable<Buffer>, { size }: ArchiveFile): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const chunk of chunks) parts.push(chunk)
  return Buffer.concat(parts, size)
}

function format(report: ExportReport): string {
  const { stdout: stream } = process
  const paint = (style: 'green' | 'red' | 'yellow', text: string): string => styleText(style, text, { stream })
  if (report.result === 'invalid')
    return `${paint('red', 'INVALID')}  ${report.source}\n  ${report.code}: ${report.detail}\n`
  const head =
    report.result === 'verified'
      ? paint('green', 'verified')
      : `${paint('yellow', 'consistent')}, but only with the keys that came with it`
  const { manifest, checkpoint } = report
  const query = Object.entries(manifest?.query ?? {}).map(([name, value]) => `${name}=${value}`)
  return `${[
    `${head}  ${report.source}`,
    `  records      ${report.records} of tenant ${report.tenant}, each proved to be in the log`,
    `  bytes        ${report.exact} exactly as committed to; ${report.scrubbed} scrubbed, so that their bytes are not the committed ones`,
    `  asked for    ${query.join(', ')}`,
    `  made         ${manifest?.made_at} for ${manifest?.requested_by}, export ${manifest?.export_id}`,
    `  log          ${checkpoint?.origin}, ${checkpoint?.size} entries, root ${checkpoint?.root}, key ${report.log_key}`,
    ...(report.timestamp == null
      ? []
      : [
          `  time stamp   ${report.timestamp.time} by ${report.timestamp.authority}${report.timestamp.trusted ? '' : ' (not checked)'}`,
        ]),
    ...(report.unchecked ?? []).map((what) => `  not checked  ${what}`),
    ...(report.result === 'verified' ? [] : ['               name the log’s key with --log-key']),
    '  not proved   that no record which the query finds was left out: that is the ledger’s word, signed',
  ].join('\n')}\n`
}
