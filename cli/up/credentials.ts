import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { SignetError } from '#core/error/signet-error.ts'
import { parseKeyring, type Keyring } from '#core/keyring/keyring.ts'
import { rotateKeys } from '#core/keyring/lifecycle.ts'
import { generateBundleKey } from '#engine/bundle/sign.ts'
import type { AckKey } from '#core/keyring/schema.ts'
import type { TokenFile } from '#runtime/identity/token.ts'
import type { StateFolder } from '../state.ts'

export type Credentials = {
  readonly passwords: { readonly admin: string; readonly ledger: string; readonly governance: string }
  readonly bundleKey: BundleKey
}
type BundleKey = Awaited<ReturnType<typeof generateBundleKey>>['key']

const TEN_YEARS_MS = 10 * 365 * 24 * 60 * 60 * 1000

/**
 * Makes what is missing of keys, tokens and passwords, all of them random and readable by this user alone, and keeps what is there:
 * stamps and chains of earlier starts go on verifying. A new tenant or producer gets a stamp key of its own.
 */
export async function ensureCredentials(
  state: StateFolder,
  tenant: string,
  producerId: string,
  now: Date,
): Promise<Credentials> {
  await mkdir(state.folder, { recursive: true, mode: 0o711 })
  await ensureKeyrings(state, tenant, producerId, now)
  const proxyToken = await keep(state.proxyToken, () => randomBytes(32).toString('base64url'))
  const auditorToken = await keep(state.auditorToken, () => randomBytes(32).toString('base64url'))
  await keep(state.secretsKey, () => `${randomBytes(32).toString('base64')}\n`)
  const governanceToken = await keep(state.governanceToken, () => randomBytes(32).toString('base64url'))
  const tokens: TokenFile = {
    version: 1,
    tokens: [
      {
        sha256: sha256(proxyToken),
        name: 'proxy',
        tenant,
        producer_id: producerId,
        scopes: ['audit:write', 'audit:read'],
      },
      {
        sha256: sha256(governanceToken),
        name: 'governance',
        tenant,
        tenants: '*',
        producer_id: 'signet/governance',
        scopes: ['audit:write', 'audit:read'],
      },
      { sha256: sha256(auditorToken), name: 'auditor', tenant, scopes: ['audit:read', 'audit:export'] },
    ],
  }
  await replace(state.tokenFile, json(tokens))
  const passwords = JSON.parse(
    await keep(state.passwords, () =>
      json({ admin: randomBytes(24).toString('base64url'), ledger: randomBytes(24).toString('base64url') }),
    ),
  ) as Omit<Credentials['passwords'], 'governance'> & { governance?: string }
  // A state folder from before there was governance has no password for it.
  if (passwords.governance === undefined) {
    const all = { ...passwords, governance: randomBytes(24).toString('base64url') }
    await replace(state.passwords, json(all))
    return { passwords: all, bundleKey: await ensureBundleKey(state) }
  }
  return { passwords: { ...passwords, governance: passwords.governance }, bundleKey: await ensureBundleKey(state) }
}

async function ensureKeyrings(state: StateFolder, tenant: string, producerId: string, now: Date): Promise<void> {
  const validity = {
    // An hour back: the clock may be set right after the first start.
    not_before: new Date(now.getTime() - 60 * 60 * 1000).toISOString(),
    not_after: new Date(now.getTime() + TEN_YEARS_MS).toISOString(),
  }
  const ledgerKeyring = parseKeyring(
    await keep(state.ledgerKeyring, () => {
      const pair = generateKeyPairSync('ed25519')
      const keyring: Keyring = {
        version: 1,
        keys: [
          {
            use: 'chain',
            alg: 'HMAC-SHA256',
            key_id: 'chain-1',
            secret: randomBytes(32).toString('base64url'),
            ...validity,
          },
          {
            use: 'ack',
            alg: 'Ed25519',
            key_id: 'ack-1',
            public_key: pair.publicKey.export({ type: 'spki', format: 'der' }).toString('base64url'),
            private_key: pair.privateKey.export({ type: 'pkcs8', format: 'der' }).toString('base64url'),
            ...validity,
          },
        ],
      }
      return json(keyring)
    }),
  )
  await ensureSealMaster(state, ledgerKeyring, now)
  const acks = ledgerKeyring.keys.filter((key) => key.use === 'ack').map(publicPart)
  const keyring = parseKeyring(await keep(state.keyring, () => json({ version: 1, keys: acks } satisfies Keyring)))
  const hasKey = keyring.keys.some(
    (key) => key.use === 'stamp' && key.tenant === tenant && key.producer_id === producerId,
  )
  if (hasKey) return
  const count = keyring.keys.filter((key) => key.use === 'stamp').length
  const key = {
    use: 'stamp' as const,
    alg: 'HMAC-SHA256' as const,
    key_id: `stamp-${count + 1}`,
    tenant,
    producer_id: producerId,
  }
  const keys = [...keyring.keys, { ...key, secret: randomBytes(32).toString('base64url'), ...validity }]
  await replace(state.keyring, json({ version: 1, keys } satisfies Keyring))
}

/** A state folder from before personal fields were sealed gets the key that they are sealed with. */
async function ensureSealMaster(state: StateFolder, keyring: Keyring, now: Date): Promise<void> {
  if (keyring.keys.some(({ use }) => use === 'seal-master')) return
  const rotation = {
    use: 'seal-master',
    at: now,
    leadMs: 0,
    overlapMs: 0,
    lifetimeMs: TEN_YEARS_MS,
    randomBytes,
  } as const
  await replace(state.ledgerKeyring, json(rotateKeys(keyring, rotation).keyring))
}

function publicPart(key: AckKey): AckKey {
  const part = { ...key }
  delete part.private_key
  return part
}

async function ensureBundleKey(state: StateFolder): Promise<BundleKey> {
  const pair = JSON.parse(await keep(state.bundleKey, async () => json(await generateBundleKey()))) as Awaited<
    ReturnType<typeof generateBundleKey>
  >
  await replace(state.bundleTrust, json(pair.trust))
  return pair.key
}

/** The file's content; made when it is not there. @throws SignetError CONFIG_INVALID when it cannot be read or written */
async function keep(file: string, make: () => string | Promise<string>): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw unusable(file, error)
  }
  const content = await make()
  await replace(file, content)
  return content
}

/** Whole or not at all: an interrupted first start leaves no half key. */
async function replace(file: string, content: string): Promise<void> {
  const draft = `${file}.${process.pid}.new`
  try {
    await writeFile(draft, content, { mode: 0o600 })
    await rename(draft, file)
  } catch (error) {
    throw unusable(file, error)
  }
}

function unusable(file: string, cause: unknown): SignetError {
  const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown reason'
  return new SignetError(
    'CONFIG_INVALID',
    `${file} cannot be used (${reason}); set SIGNET_STATE_DIR to a folder of yours`,
    { cause },
  )
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`
}
