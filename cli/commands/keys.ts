import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { SignetError } from '#core/error/signet-error.ts'
import {
  archiveKeys,
  keyState,
  retirePrivateKeys,
  revokeKey,
  ROTATED_USES,
  rotateKeys,
  type KeyEntry,
  type RotatedUse,
} from '#core/keyring/lifecycle.ts'
import { isRealTimestamp } from '#core/time/timestamp.ts'
import { readKeyringFile, replaceKeyringFile } from '../keys/file.ts'
import { UsageError } from '../usage.ts'

export const KEYS_HELP = `signet keys list FILE              says which keys a keyring file has, never a secret
signet keys rotate FILE --use USE  adds a successor for the valid keys of a use: ${ROTATED_USES.join(', ')}
signet keys revoke FILE --key ID   ends a key now; what it made before still verifies
signet keys archive FILE --to ARCHIVE
                                   copies all that it takes to verify into ARCHIVE, and takes the private keys of ended keys out of FILE

  --lead DAYS       rotate: until the new key takes over; verifiers have to learn of an ack key first (1 for ack, else 0)
  --overlap DAYS    rotate: how long the former key stays valid after that (7)
  --lifetime DAYS   rotate: how long the new key is valid (38: a month, and the overlap)
  --at TIME         revoke: from when on, for example 2026-11-25T12:00:00.000Z (now)
  --json            list: as JSON

Files are replaced in one step, with mode 0600. A ledger re-reads its keyring within a second. Nothing is ever taken from a keyring that
something in the past needs to be verified with.

exit codes: 0 done; 1 refused; 2 usage, or a file could not be read or written
`

const DAY_MS = 86_400_000
const OPTIONS = {
  use: { type: 'string' },
  key: { type: 'string' },
  to: { type: 'string' },
  lead: { type: 'string' },
  overlap: { type: 'string' },
  lifetime: { type: 'string' },
  at: { type: 'string' },
  json: { type: 'boolean', default: false },
} as const
type Flags = ReturnType<typeof parseArgs<{ options: typeof OPTIONS; allowPositionals: true }>>['values']

const ALLOWED: Record<string, readonly (keyof Flags)[]> = {
  list: ['json'],
  rotate: ['use', 'lead', 'overlap', 'lifetime'],
  revoke: ['key', 'at'],
  archive: ['to'],
}

/** Gives the exit code. @throws UsageError; SignetError KEYRING_INVALID where what is asked would cost the past its proof */
export async function keys(args: string[], now: Date = new Date()): Promise<number> {
  const { values: flags, positionals } = parseArgs({ args, options: OPTIONS, allowPositionals: true })
  const [action = '', file, ...more] = positionals
  const allowed = ALLOWED[action]
  if (allowed === undefined)
    throw new UsageError(`signet keys ${action}: what to do is list, rotate, revoke or archive`, KEYS_HELP)
  if (file === undefined || more.length > 0) throw new UsageError(`signet keys ${action} takes one FILE`, KEYS_HELP)
  for (const [name, value] of Object.entries(flags)) {
    if (value !== false && !allowed.includes(name as keyof Flags))
      throw new UsageError(`--${name} does not go with keys ${action}`)
  }
  if (action === 'list') return list(file, flags, now)
  if (action === 'rotate') return rotate(file, flags, now)
  return action === 'revoke' ? revoke(file, flags, now) : archive(file, flags, now)
}

async function list(file: string, flags: Flags, now: Date): Promise<number> {
  const { keyring } = await readKeyringFile(file)
  const shown = keyring.keys.map((key) => describe(key, now))
  if (flags.json) {
    process.stdout.write(`${JSON.stringify({ version: 1, keys: shown }, null, 2)}\n`)
    return 0
  }
  const rows = shown.map(({ state, use, key_id, tenant, producer_id, not_before, not_after, revoked_at, signs }) => [
    state,
    use,
    key_id,
    `${not_before.slice(0, 16)}Z`,
    `${(revoked_at ?? not_after).slice(0, 16)}Z`,
    signs ? 'signs' : 'verifies only',
    tenant === undefined ? '' : `${tenant} ${producer_id ?? ''}`,
  ])
  process.stdout.write(table([['STATE', 'USE', 'KEY', 'FROM', 'UNTIL', '', 'FOR'], ...rows]))
  return 0
}

async function rotate(file: string, flags: Flags, now: Date): Promise<number> {
  const use = useOf(flags.use)
  const former = await readKeyringFile(file)
  const { keyring, added } = rotateKeys(former.keyring, {
    use,
    at: now,
    leadMs: daysOf('lead', flags.lead, use === 'ack' ? 1 : 0),
    overlapMs: daysOf('overlap', flags.overlap, 7),
    lifetimeMs: daysOf('lifetime', flags.lifetime, 38),
    randomBytes,
  })
  await replaceKeyringFile(file, former.text, keyring)
  for (const key of added)
    process.stdout.write(`added ${plain(key.key_id)}: signs from ${key.not_before} to ${key.not_after}\n`)
  return 0
}

async function revoke(file: string, flags: Flags, now: Date): Promise<number> {
  if (flags.key === undefined) throw new UsageError('say which key with --key ID (signet keys list shows them)')
  const { at } = flags
  if (at !== undefined && !(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(at) && isRealTimestamp(at)))
    throw new UsageError(`--at is ${plain(at)}; it must be a time such as 2026-11-25T12:00:00.000Z`)
  const former = await readKeyringFile(file)
  const revokedAt = at === undefined ? now : new Date(at)
  await replaceKeyringFile(file, former.text, revokeKey(former.keyring, flags.key, revokedAt, now))
  process.stdout.write(`revoked ${plain(flags.key)} from ${revokedAt.toISOString()} on\n`)
  return 0
}

async function archive(file: string, flags: Flags, now: Date): Promise<number> {
  const { to } = flags
  if (to === undefined) throw new UsageError('say where the archive is with --to ARCHIVE')
  const former = await readKeyringFile(file)
  const before = existsSync(to) ? await readKeyringFile(to) : null
  const archived = archiveKeys(former.keyring, before?.keyring ?? null)
  // The archive first: at no time is there a key that is in neither.
  await replaceKeyringFile(to, before?.text ?? null, archived)
  const { keyring, retired } = retirePrivateKeys(former.keyring, now)
  if (retired.length > 0) await replaceKeyringFile(file, former.text, keyring)
  process.stdout.write(`${archived.keys.length} keys are in the archive\n`)
  for (const keyId of retired) process.stdout.write(`took the private key of ${plain(keyId)} out of the keyring\n`)
  return 0
}

/** What may be shown of a key. */
function describe(key: KeyEntry, now: Date) {
  const { use, key_id, not_before, not_after, revoked_at } = key
  return {
    use,
    key_id,
    state: keyState(key, now),
    not_before,
    not_after,
    ...(revoked_at === undefined ? {} : { revoked_at }),
    ...(key.use === 'stamp' ? { tenant: key.tenant, producer_id: key.producer_id } : {}),
    ...(key.use === 'ack' ? { public_key: key.public_key } : {}),
    signs: 'secret' in key || key.private_key !== undefined,
  }
}

function useOf(text: string | undefined): RotatedUse {
  const use = ROTATED_USES.find((each) => each === text)
  if (use !== undefined) return use
  if (text === 'workload-ca')
    throw new SignetError(
      'KEYRING_INVALID',
      'a workload CA is not made here: give the keyring a new one with its certificate',
    )
  throw new UsageError(`--use must be one of ${ROTATED_USES.join(', ')}`)
}

function daysOf(name: string, text: string | undefined, otherwise: number): number {
  const days = text === undefined ? otherwise : Number(text)
  const least = name === 'lifetime' ? 1 / 24 : 0
  if (text?.trim() === '' || !(days >= least && days <= 3_660))
    throw new UsageError(`--${name} is ${plain(text ?? '')}; it must be a number of days up to 3660`)
  return Math.round(days * DAY_MS)
}

function table(rows: readonly (readonly string[])[]): string {
  const clean = rows.map((row) => row.map(plain))
  const widths = clean[0]!.map((_, column) => Math.max(...clean.map((row) => row[column]?.length ?? 0)))
  return clean
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('')
}

/** What a file says must not steer a terminal. */
function plain(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, '\ufffd')
}
