import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { SignetError } from '#core/error/signet-error.ts'
import { indexKeyring, parseKeyring } from '#core/keyring/keyring.ts'
import type { SecretData } from '#runtime/kubernetes/api.ts'
import { followClusterKeys, KEYRING_ENTRY, obtainClusterKeys, writeKeyringFile } from './cluster-keys.ts'

const SECRET = { namespace: 'signet-system', name: 'signet-ledger-keys' }

/** One API server for all replicas: it takes one Secret of a name. */
function scene() {
  const secrets = new Map<string, SecretData>()
  const logged: unknown[] = []
  const state = { away: 0, secrets, logged }
  const api = {
    getSecret: async (namespace: string, name: string) => {
      await sleep(Math.random() * 5)
      if (state.away-- > 0) throw new SignetError('KUBERNETES_UNAVAILABLE', 'away')
      return secrets.get(`${namespace}/${name}`) ?? null
    },
    createSecret: async (namespace: string, name: string, { data }: { data: SecretData }) => {
      await sleep(Math.random() * 5)
      if (secrets.has(`${namespace}/${name}`)) return false
      secrets.set(`${namespace}/${name}`, data)
      return true
    },
  }
  const log = { info: (...line: unknown[]) => logged.push(line), warn: (...line: unknown[]) => logged.push(line) }
  const deps = { api, secret: SECRET, clock: () => new Date(), randomBytes, log }
  return { ...state, state, deps }
}

describe('obtainClusterKeys', () => {
  it('makes the keys once, for replicas that start together', async () => {
    const { deps, secrets, logged } = scene()
    const texts = await Promise.all(Array.from({ length: 8 }, () => obtainClusterKeys(deps, 0)))
    expect(new Set(texts).size).toBe(1)
    expect(secrets.size).toBe(1)
    const keys = indexKeyring(parseKeyring(texts[0] ?? ''))
    const now = new Date()
    const active = [
      keys.activeChainKey(now),
      keys.activeAckKey(now),
      keys.activeStampRoot(now, now),
      keys.activeWorkloadCa(now, now),
    ]
    expect(active.map((key) => key?.keyId.split('-')[0])).toEqual(['chain', 'ack', 'root', 'ca'])
    // Nothing of a key is logged.
    for (const key of parseKeyring(texts[0] ?? '').keys)
      if ('secret' in key) expect(JSON.stringify(logged)).not.toContain(key.secret)
  })

  it('never replaces what it cannot use', async () => {
    const { deps, secrets } = scene()
    for (const data of [{}, { [KEYRING_ENTRY]: Buffer.from('{"version":1,"keys":[]}') }]) {
      secrets.set('signet-system/signet-ledger-keys', data)
      await expect(obtainClusterKeys(deps, 0)).rejects.toMatchObject({ code: 'KEYRING_INVALID' })
      expect(secrets.get('signet-system/signet-ledger-keys')).toBe(data)
    }
  })

  it('waits for an API server that is away, for its time', async () => {
    const { deps, state } = scene()
    state.away = 1
    await expect(obtainClusterKeys(deps, 5_000)).resolves.toContain('"stamp-root"')
    state.away = 1
    await expect(obtainClusterKeys(deps, 0)).rejects.toMatchObject({ code: 'KUBERNETES_UNAVAILABLE' })
  })
})

describe('the keyring file', () => {
  let dir: string
  beforeAll(async () => {
    dir = await mkdtemp(path.join(tmpdir(), 'signet-keys-'))
  })
  afterAll(() => rm(dir, { recursive: true }))

  it('is for one user only, and follows the Secret', async () => {
    const { deps, secrets } = scene()
    const text = await obtainClusterKeys(deps, 0)
    const file = path.join(dir, 'keyring.json')
    await writeFile(file, 'old', { mode: 0o644 })
    await writeKeyringFile(file, text)
    expect((await stat(file)).mode & 0o777).toBe(0o600)

    const stop = new AbortController()
    const following = followClusterKeys(deps, { path: file, text }, { everyMs: 5, signal: stop.signal })
    const put = (content: string) =>
      secrets.set('signet-system/signet-ledger-keys', { [KEYRING_ENTRY]: Buffer.from(content) })
    put('broken')
    await sleep(50)
    expect(await readFile(file, 'utf8')).toBe(text)
    const other = `${text} `
    put(other)
    await expect.poll(() => readFile(file, 'utf8')).toBe(other)
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    stop.abort()
    await following
  })

  it('says where it cannot be written', async () => {
    await expect(writeKeyringFile(path.join(dir, 'none/keyring.json'), 'x')).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    })
  })
})
