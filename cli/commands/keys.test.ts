import { execFile } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parseKeyring } from '#core/keyring/keyring.ts'
import { replaceKeyringFile } from '../keys/file.ts'

const MAIN = path.join(import.meta.dirname, '../main.ts')
const SECRET = Buffer.alloc(32, 7).toString('base64url')
const validity = { not_before: '2020-01-01T00:00:00.000Z', not_after: '2100-01-01T00:00:00.000Z' }
const pair = generateKeyPairSync('ed25519')
const PRIVATE = pair.privateKey.export({ type: 'pkcs8', format: 'der' }).toString('base64url')
const KEYRING = {
  version: 1,
  keys: [
    { use: 'chain', alg: 'HMAC-SHA256', key_id: 'chain-1', secret: SECRET, ...validity },
    {
      use: 'ack',
      alg: 'Ed25519',
      key_id: 'ack-1',
      public_key: pair.publicKey.export({ type: 'spki', format: 'der' }).toString('base64url'),
      private_key: PRIVATE,
      ...validity,
    },
  ],
} as const

let dir: string
let file: string
beforeEach(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'signet-keys-'))
  file = path.join(dir, 'keyring.json')
  await writeFile(file, JSON.stringify(KEYRING))
  await chmod(file, 0o644)
})
afterEach(() => rm(dir, { recursive: true, force: true }))

function keys(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, 'keys', ...args], (error, stdout, stderr) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr }),
    )
  })
}
const now = async () => parseKeyring(await readFile(file, 'utf8'))

describe('signet keys', () => {
  it('lists keys without a secret', async () => {
    const { code, stdout } = await keys('list', file)
    expect(code).toBe(0)
    expect(stdout).toMatch(/^STATE +USE +KEY/)
    expect(stdout).toMatch(/valid +chain +chain-1 +2020-01-01T00:00Z +2100-01-01T00:00Z +signs/)
    const { stdout: json } = await keys('list', file, '--json')
    expect(JSON.parse(json)).toMatchObject({ keys: [{ key_id: 'chain-1', state: 'valid', signs: true }, {}] })
    for (const text of [stdout, json]) for (const secret of [SECRET, PRIVATE]) expect(text).not.toContain(secret)
  })

  it('rotates, revokes and archives, the file for its owner only', async () => {
    const rotated = await keys('rotate', file, '--use', 'chain', '--overlap', '1')
    expect([rotated.code, rotated.stdout]).toEqual([
      0,
      expect.stringMatching(/^added chain-\d{4}-\d\d-\d\d: signs from/),
    ])
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect((await now()).keys.map(({ use }) => use)).toEqual(['chain', 'chain', 'ack'])
    expect((await keys('revoke', file, '--key', 'chain-1')).code).toBe(0)
    expect((await keys('list', file)).stdout).toMatch(/revoked +chain +chain-1/)
    await keys('rotate', file, '--use', 'ack', '--lead', '0')
    expect((await keys('revoke', file, '--key', 'ack-1')).code).toBe(0)
    const archive = path.join(dir, 'archive.json')
    const archived = await keys('archive', file, '--to', archive)
    expect(archived).toMatchObject({ code: 0, stdout: expect.stringContaining('private key of ack-1') as string })
    const kept = parseKeyring(await readFile(archive, 'utf8'))
    expect(kept.keys.map(({ key_id }) => key_id).toSorted()).toEqual(
      (await now()).keys.map(({ key_id }) => key_id).toSorted(),
    )
    expect(JSON.stringify(kept)).not.toContain('private_key')
    expect(await readFile(file, 'utf8')).not.toContain(PRIVATE)
    expect((await stat(archive)).mode & 0o777).toBe(0o600)
    expect((await readdir(dir)).toSorted()).toEqual(['archive.json', 'keyring.json'])
  })

  it.each([
    { args: ['revoke', 'FILE', '--key', 'chain-1'], wantCode: 1, want: /rotate first/ },
    { args: ['rotate', 'FILE', '--use', 'workload-ca'], wantCode: 1, want: /not made here/ },
    { args: ['rotate', 'FILE', '--use', 'x'], wantCode: 2, want: /--use must be one of/ },
    { args: ['rotate', 'FILE', '--use', 'chain', '--overlap', '-1'], wantCode: 2, want: /number of days|ambiguous/ },
    { args: ['rotate', 'FILE', '--use', 'chain', '--to', 'x'], wantCode: 2, want: /--to does not go with/ },
    { args: ['revoke', 'FILE', '--key', 'ack-1', '--at', 'now'], wantCode: 2, want: /must be a time/ },
    { args: ['revoke', 'FILE'], wantCode: 2, want: /say which key/ },
    { args: ['archive', 'FILE'], wantCode: 2, want: /say where/ },
    { args: ['list'], wantCode: 2, want: /takes one FILE/ },
    { args: ['list', '/nowhere'], wantCode: 2, want: /there is no such file/ },
    { args: ['burn', 'FILE'], wantCode: 2, want: /list, rotate, revoke or archive/ },
  ])('$args: exit $wantCode, and the file is as it was', async ({ args, wantCode, want }) => {
    const before = await readFile(file, 'utf8')
    const { code, stderr } = await keys(...args.map((arg) => (arg === 'FILE' ? file : arg)))
    expect([code, stderr]).toEqual([wantCode, expect.stringMatching(want)])
    expect(await readFile(file, 'utf8')).toBe(before)
  })

  it('does not write over what somebody else has written meanwhile', async () => {
    await expect(replaceKeyringFile(file, 'as it was', parseKeyring(JSON.stringify(KEYRING)))).rejects.toThrow(
      /was changed meanwhile/,
    )
    expect(await readdir(dir)).toEqual(['keyring.json'])
  })
})
