import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { SignetError } from '#core/error/signet-error.ts'
import { indexKeyring, parseKeyring, type KeyIndex } from '#core/keyring/keyring.ts'
import { CHANNELS, type Channel, type StampSubject } from '#core/stamp/schema.ts'
import { targetDigest } from '#core/stamp/subject.ts'
import { verifyStamp, type VerifiedStamp } from '#core/stamp/verify.ts'
import { findState, readEndpoints } from '../state.ts'
import { UsageError } from '../usage.ts'
import type { Evidence } from '../verify/evidence.ts'
import { looksLikeExport, verifyExport } from '../verify/export.ts'
import { evidenceOfFile } from '../verify/file.ts'
import { verifyLedger } from '../verify/ledger.ts'
import { verifyProof } from '../verify/proof.ts'
import { exitCodeOf, formatReport, invalidReport, verifiedReport, type Report } from '../verify/report.ts'
import { readLogKeys } from '../verify/log-keys.ts'
import { evidenceOfUrl } from '../verify/url.ts'

export const VERIFY_HELP = `signet verify FILE|URL   checks a stamp against the content that it came with
signet verify --ledger   checks the hash chain of the ledger
signet verify EXPORT     checks an export of audit records (.tar.gz) with no network
signet verify --proof FILE --log-key KEY   checks, without the ledger, that an event is in its signed tree

  --keyring FILE      keys to verify with (found by itself beside npm start)
  --sidecar FILE      the stamp of FILE (else the one inside it, else FILE.stamp.json)
  --stamp-header V    the stamp of FILE, as the value of its Compliance-Stamp header
  --target T          path and query that the content should be the answer to, for example /reports?year=2026
  --method M --status N --tenant T --channel external|internal
                      what else the stamp should be bound to; a URL is asked with --method (GET), and its
                      target, method, status and media type are expected by themselves
  --header 'N: V'     a header to send to a URL; repeatable
  --url URL --token-file FILE
                      the ledger and the token for it (found by themselves beside npm start); with --keyring,
                      which holds its chain keys, and --tenant, whose chain it should be
  --proof FILE        what GET /api/audit/logs/{event_id}/proof gave
  --event FILE        the event's item of GET /api/audit/logs: what the proof is about
  --log-key KEY|FILE  a public key of the log, or a file of them (GET /log/keys, from a source that you trust)
  --tsa-root FILE     roots of time-stamp authorities that you trust, in PEM: the time stamp of an export is then needed
  --json              the report as JSON

exit codes: 0 verified (FILE, URL: subject included; --ledger: every link, with its chain key, for the tenant expected;
              --proof: event included)
            1 invalid; 2 usage, or something could not be read; 3 no fault found, but not fully checked: the report says what
`

const OPTIONS = {
  keyring: { type: 'string' },
  sidecar: { type: 'string' },
  'stamp-header': { type: 'string' },
  target: { type: 'string' },
  method: { type: 'string' },
  status: { type: 'string' },
  tenant: { type: 'string' },
  channel: { type: 'string' },
  header: { type: 'string', multiple: true },
  ledger: { type: 'boolean' },
  proof: { type: 'string' },
  event: { type: 'string' },
  'log-key': { type: 'string' },
  'tsa-root': { type: 'string' },
  url: { type: 'string' },
  'token-file': { type: 'string' },
  json: { type: 'boolean' },
} as const
type Flags = ReturnType<typeof parseArgs<{ options: typeof OPTIONS; allowPositionals: true }>>['values']

/** Gives the exit code. @throws UsageError; a TypeError of parseArgs for an unknown flag */
export async function verify(args: string[], env: Readonly<Record<string, string | undefined>>): Promise<number> {
  const { values: flags, positionals } = parseArgs({ args, options: OPTIONS, allowPositionals: true })
  if (flags.ledger === true) {
    if (positionals.length > 0)
      throw new UsageError('verify --ledger takes no FILE or URL; the ledger is named with --url')
    return verifyLedger(
      {
        url: flags.url,
        tokenFile: flags['token-file'],
        keyring: flags.keyring,
        tenant: flags.tenant,
        json: flags.json === true,
      },
      env,
    )
  }
  if (flags.proof !== undefined) {
    if (positionals.length > 0) throw new UsageError('verify --proof takes no other FILE or URL')
    const { proof, event, 'log-key': logKey, json } = flags
    return verifyProof({ proof, event, logKey, json: json === true })
  }
  if (flags.event !== undefined) throw new UsageError('--event goes with --proof')
  const [source, ...more] = positionals
  if (source === undefined) throw new UsageError('verify needs a FILE or a URL (or --ledger)')
  if (more.length > 0) throw new UsageError(`verify takes one FILE or URL, not also ${more.join(', ')}`)
  for (const name of ['url', 'token-file'] as const) {
    if (flags[name] !== undefined) throw new UsageError(`--${name} goes with --ledger`)
  }
  if (flags.sidecar === undefined && flags['stamp-header'] === undefined && looksLikeExport(source)) {
    const { 'log-key': logKey, 'tsa-root': tsaRoot, tenant, json } = flags
    const logKeys = readLogKeys(logKey === undefined ? [] : [logKey])
    const tsaRoots = tsaRoot === undefined ? [] : readRoots(tsaRoot)
    return verifyExport(source, { logKeys, tsaRoots, tenant, json: json === true })
  }
  if (flags['tsa-root'] !== undefined) throw new UsageError('--tsa-root goes with an export (.tar.gz)')
  if (flags['log-key'] !== undefined) throw new UsageError('--log-key goes with --proof, or with an export (.tar.gz)')
  const report = await verifySource(source, flags, env)
  process.stdout.write(
    flags.json === true ? `${JSON.stringify(report, null, 2)}\n` : formatReport(report, process.stdout),
  )
  return exitCodeOf(report)
}

async function verifySource(
  source: string,
  flags: Flags,
  env: Readonly<Record<string, string | undefined>>,
): Promise<Report> {
  const stated = statedSubject(flags)
  const url = /^https?:\/\//i.test(source) ? URL.parse(source) : undefined
  if (url === null) throw new UsageError(`${source} is not a URL`)
  const keyring = await loadKeyring(flags.keyring, env)
  try {
    if (url === undefined) {
      if (flags.header !== undefined) throw new UsageError('--header goes with a URL')
      const evidence = await evidenceOfFile(source, { sidecar: flags.sidecar, stampHeader: flags['stamp-header'] })
      return verifiedReport(source, evidence.place, verifyAll({ ...evidence, expected: stated }, keyring))
    }
    if (flags.sidecar !== undefined || flags['stamp-header'] !== undefined) {
      throw new UsageError('--sidecar and --stamp-header go with a FILE; a URL says itself where its stamp is')
    }
    const method = flags.method ?? 'GET'
    const evidence = await evidenceOfUrl({ url, method, headers: parseHeaders(flags.header ?? []) })
    const expected = { ...localSubject(url, env), ...evidence.expected, ...stated }
    return verifiedReport(source, evidence.place, verifyAll({ ...evidence, expected }, keyring))
  } catch (error) {
    const report = error instanceof SignetError ? invalidReport(source, error) : null
    if (report === null) throw error
    return report
  }
}

/** Every stamp has to hold: one beside the content does not excuse one inside. The last one is reported. */
function verifyAll({ payload, stamps, expected }: Evidence, keyring: KeyIndex): VerifiedStamp {
  const verified = stamps.map((stampBytes) => verifyStamp({ stampBytes, payload, keyring, expected }))
  return verified.find(({ subjectChecked }) => !subjectChecked) ?? (verified.at(-1) as VerifiedStamp)
}

/** What the command line says of the answer. */
function statedSubject(flags: Flags): Partial<StampSubject> {
  const subject: Partial<StampSubject> = {}
  if (flags.target !== undefined) {
    if (!flags.target.startsWith('/'))
      throw new UsageError(`--target is ${flags.target}; it must be a path with its query, beginning with /`)
    subject.target_digest = targetDigest(flags.target)
  }
  if (flags.method !== undefined) {
    if (!/^[A-Z][A-Z0-9-]*$/.test(flags.method))
      throw new UsageError(`--method is ${flags.method}; it must be a method in capitals, for example GET`)
    subject.method = flags.method
  }
  if (flags.status !== undefined) {
    if (!/^[2-5]\d\d$/.test(flags.status))
      throw new UsageError(`--status is ${flags.status}; it must be a number from 200 to 599`)
    subject.status = Number(flags.status)
  }
  if (flags.tenant !== undefined) subject.tenant = flags.tenant
  if (flags.channel !== undefined) subject.channel = asChannel(flags.channel)
  return subject
}

function asChannel(value: string): Channel {
  const channel = CHANNELS.find((each) => each === value)
  if (channel === undefined) throw new UsageError(`--channel is ${value}; it must be one of ${CHANNELS.join(', ')}`)
  return channel
}

/** Tenant and channel of a listener that a `signet up` nearby has opened. */
function localSubject(url: URL, env: Readonly<Record<string, string | undefined>>): Partial<StampSubject> {
  const state = findState(env, process.cwd())
  const endpoints = state === null ? null : readEndpoints(state)
  if (endpoints === null) return {}
  const origin = url.origin.replace('//localhost:', '//127.0.0.1:')
  for (const channel of CHANNELS) if (endpoints[channel] === origin) return { channel, tenant: endpoints.tenant }
  return {}
}

function parseHeaders(lines: readonly string[]): Map<string, string> {
  return new Map(
    lines.map((line) => {
      const [, name, value] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+): *(.*)$/.exec(line) ?? []
      // The value may be a credential: it is not repeated.
      if (name === undefined || value === undefined) throw new UsageError("--header must be of the form 'Name: value'")
      return [name, value]
    }),
  )
}

async function loadKeyring(
  flag: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
): Promise<KeyIndex> {
  const file = flag ?? findState(env, process.cwd())?.keyring
  if (file === undefined)
    throw new UsageError('no keyring: name it with --keyring FILE (beside npm start it is found by itself)')
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new UsageError(`cannot read the keyring ${file}: ${code === 'ENOENT' ? 'there is no such file' : message}`)
  }
  try {
    return indexKeyring(parseKeyring(text))
  } catch (error) {
    if (error instanceof SignetError) throw new UsageError(`the keyring ${file} cannot be used: ${error.message}`)
    throw error
  }
}

/** @throws UsageError for what is no PEM of certificates */
function readRoots(file: string): X509Certificate[] {
  try {
    const blocks = readFileSync(file, 'utf8').match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
    if (blocks.length === 0) throw new Error('it holds no certificate')
    return blocks.map((block) => new X509Certificate(block))
  } catch (error) {
    throw new UsageError(`--tsa-root ${file} cannot be used: ${(error as Error).message}`)
  }
}
