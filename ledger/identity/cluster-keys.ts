import { generateKeyPairSync } from 'node:crypto'
import { rename, rm, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { SignetError } from '#core/error/signet-error.ts'
import { parseKeyring, type Keyring } from '#core/keyring/keyring.ts'
import type { KubernetesApi } from '#runtime/kubernetes/api.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import { ledgerKeys } from '../keys.ts'
import { makeWorkloadCa } from './certificate.ts'

export type KeysSecret = { readonly namespace: string; readonly name: string }
export type ClusterKeysDeps = {
  readonly api: Pick<KubernetesApi, 'getSecret' | 'createSecret'>
  readonly secret: KeysSecret
  readonly clock: () => Date
  readonly randomBytes: (length: number) => Buffer
  readonly log: Pick<Logger, 'info' | 'warn'>
}

/** The member of the Secret that holds the keyring. */
export const KEYRING_ENTRY = 'keyring.json'
const LABELS = { 'app.kubernetes.io/part-of': 'signet', 'app.kubernetes.io/component': 'ledger' }
const YEARS = 10
const DAY_MS = 86_400_000

/**
 * The keyring of a cluster's ledger: what the Secret holds, or new keys that are put there. Several replicas may do this at once: the
 * API server takes one Secret of a name, and who comes second reads it. Tries for `patienceMs` to reach the API server.
 * @throws SignetError KEYRING_INVALID when the Secret holds no keyring for a ledger (it is never replaced), KUBERNETES_REFUSED,
 * KUBERNETES_UNAVAILABLE. No message holds anything of a key
 */
export async function obtainClusterKeys(deps: ClusterKeysDeps, patienceMs: number): Promise<string> {
  const { clock, log } = deps
  const deadline = clock().getTime() + patienceMs
  for (;;) {
    try {
      return await readOrMake(deps)
    } catch (error) {
      const isAway = error instanceof SignetError && error.code === 'KUBERNETES_UNAVAILABLE'
      if (!isAway || clock().getTime() >= deadline) throw error
      log.warn({ error }, 'waiting for the Kubernetes API')
      await sleep(1_000)
    }
  }
}

async function readOrMake(deps: ClusterKeysDeps): Promise<string> {
  const { api, secret, log } = deps
  const there = await readClusterKeys(deps)
  if (there !== null) return there
  const text = JSON.stringify(await newLedgerKeyring(deps))
  const data = { [KEYRING_ENTRY]: Buffer.from(text) }
  if (await api.createSecret(secret.namespace, secret.name, { data, labels: LABELS })) {
    log.info({ ...secret }, 'the keys of the ledger were made')
    return text
  }
  const others = await readClusterKeys(deps)
  if (others !== null) return others
  throw new SignetError('KUBERNETES_UNAVAILABLE', `the Secret ${secret.namespace}/${secret.name} comes and goes`)
}

/** What the Secret holds, checked; null where there is no Secret. */
export async function readClusterKeys({
  api,
  secret,
}: Pick<ClusterKeysDeps, 'api' | 'secret'>): Promise<string | null> {
  const place = `the Secret ${secret.namespace}/${secret.name}`
  const data = await api.getSecret(secret.namespace, secret.name)
  if (data === null) return null
  const entry = data[KEYRING_ENTRY]
  if (entry === undefined) throw new SignetError('KEYRING_INVALID', `${place} has no entry ${KEYRING_ENTRY}`)
  const text = entry.toString('utf8')
  try {
    ledgerKeys(text)
  } catch (cause) {
    const why = cause instanceof SignetError ? cause.message : 'it cannot be read'
    throw new SignetError('KEYRING_INVALID', `${place}, ${KEYRING_ENTRY}: ${why}`, { cause })
  }
  return text
}

/** Chain key, ack key, stamp root, seal master and workload CA, of one making. */
export async function newLedgerKeyring(deps: Pick<ClusterKeysDeps, 'clock' | 'randomBytes'>): Promise<Keyring> {
  const now = deps.clock()
  // Whole seconds for the certificate, and a day early, for the keys that are derived for days.
  const notBefore = new Date(Math.floor((now.getTime() - DAY_MS) / 1_000) * 1_000)
  const notAfter = new Date(notBefore)
  notAfter.setUTCFullYear(notAfter.getUTCFullYear() + YEARS)
  const validity = { not_before: notBefore.toISOString(), not_after: notAfter.toISOString() }
  const mark = `${now.toISOString().slice(0, 10)}-${deps.randomBytes(4).toString('hex')}`
  const secret = (): string => deps.randomBytes(32).toString('base64url')
  const ack = generateKeyPairSync('ed25519')
  const ca = await makeWorkloadCa({ notBefore, notAfter }, deps.randomBytes)
  const keyring: Keyring = {
    version: 1,
    keys: [
      { use: 'chain', alg: 'HMAC-SHA256', key_id: `chain-${mark}`, secret: secret(), ...validity },
      {
        use: 'ack',
        alg: 'Ed25519',
        key_id: `ack-${mark}`,
        public_key: ack.publicKey.export({ format: 'der', type: 'spki' }).toString('base64url'),
        private_key: ack.privateKey.export({ format: 'der', type: 'pkcs8' }).toString('base64url'),
        ...validity,
      },
      { use: 'stamp-root', alg: 'HKDF-SHA256', key_id: `root-${mark}`, secret: secret(), ...validity },
      { use: 'seal-master', alg: 'XAES-256-GCM', key_id: `seal-${mark}`, secret: secret(), ...validity },
      {
        use: 'workload-ca',
        alg: 'ECDSA-P256',
        key_id: `ca-${mark}`,
        certificate: ca.certificate.toString('base64url'),
        private_key: ca.privateKey.toString('base64url'),
        ...validity,
      },
    ],
  }
  return parseKeyring(JSON.stringify(keyring))
}

/** Puts a keyring in its place as a whole, readable to this user only. @throws SignetError CONFIG_INVALID */
export async function writeKeyringFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.new-${process.pid}`
  try {
    // Left by a process that was killed: in a container all have the same number.
    await rm(temporary, { force: true })
    await writeFile(temporary, text, { mode: 0o600, flag: 'wx' })
    await rename(temporary, path)
  } catch (cause) {
    await rm(temporary, { force: true })
    const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown'
    throw new SignetError('CONFIG_INVALID', `SIGNET_LEDGER_KEYRING is ${path}, which cannot be written (${reason})`, {
      cause,
    })
  }
}

/** Looks at the Secret from time to time and writes the file anew when it holds another keyring, until `signal` aborts. */
export async function followClusterKeys(
  deps: Pick<ClusterKeysDeps, 'api' | 'secret' | 'log'>,
  file: { readonly path: string; readonly text: string },
  options: { readonly everyMs: number; readonly signal: AbortSignal },
): Promise<void> {
  let written = file.text
  while (!options.signal.aborted) {
    try {
      const text = await readClusterKeys(deps)
      if (text === null)
        deps.log.warn({ ...deps.secret }, 'the Secret with the keys of the ledger is gone; the keys stay')
      else if (text !== written) {
        await writeKeyringFile(file.path, text)
        written = text
      }
    } catch (error) {
      deps.log.warn({ error }, 'the Secret with the keys of the ledger cannot be used; the former keys stay')
    }
    await sleep(options.everyMs, undefined, { signal: options.signal, ref: false }).catch(() => undefined)
  }
}
