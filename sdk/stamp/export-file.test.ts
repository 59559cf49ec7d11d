import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { KEYRING } from '#core/stamp/stamp.fixture.ts'
import { stampSigner, type StampContext } from './attach-stamp.ts'
import { keyringAuthority } from './authority.ts'
import { exportStamped } from './export-file.ts'
import { verifyStamp } from './verify-stamp.ts'

const RING = JSON.stringify(KEYRING)
const now = () => new Date('2026-11-23T09:30:00.123Z')
const sign = stampSigner(RING, { tenant: 'acme', producerId: 'reports/ledger-api', now })
const CONTEXT: StampContext = {
  classification: 'internal',
  target: '/exports/q3.csv',
  mediaType: 'text/csv',
  channel: 'internal',
  policyRevision: 'job-7',
}
const EXPECTED = { tenant: 'acme', channel: 'internal', method: 'GET', target: '/exports/q3.csv', status: 200 } as const

let dir: string
let file: string
beforeEach(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'signet-export-'))
  file = path.join(dir, 'q3.csv')
})
afterEach(() => rm(dir, { recursive: true }))

async function verifyFile() {
  const stamped = { content: await readFile(file), sidecar: await readFile(`${file}.stamp.json`) }
  return verifyStamp(stamped, EXPECTED, keyringAuthority(RING))
}
const visible = async () => (await readdir(dir)).filter((name) => !name.startsWith('.')).sort()

describe('exportStamped', () => {
  test('the file is not to be seen before its stamp', async () => {
    const seen: string[][] = []
    async function* rows() {
      yield 'a,b\n'
      seen.push(await visible())
      yield Buffer.from('1,2\n')
      seen.push(await visible())
    }
    const { hash } = await exportStamped(file, rows(), CONTEXT, (payload, context) => sign(payload, context))
    expect(seen).toEqual([[], []])
    expect(await readFile(file, 'utf8')).toBe('a,b\n1,2\n')
    expect((await verifyFile()).hash).toBe(hash)
    expect(await readdir(dir)).toEqual(['q3.csv', 'q3.csv.stamp.json'])
  })

  test.each([
    { name: 'bytes', content: Buffer.from('x') },
    { name: 'nothing', content: [] },
    { name: 'many chunks', content: Array.from({ length: 2_000 }, (_, at) => `${at},${'x'.repeat(100)}\n`) },
  ])('$name', async ({ content }) => {
    await exportStamped(file, content, CONTEXT, sign)
    expect((await verifyFile()).subjectChecked).toBe(true)
  })

  test('what cannot be stamped, or breaks off, never appears, and leaves nothing', async () => {
    function* breaking() {
      yield 'a'
      throw new Error('the database went away')
    }
    await expect(exportStamped(file, breaking(), CONTEXT, sign)).rejects.toThrow('the database went away')
    const bad = { ...CONTEXT, classification: 'secret' as never }
    await expect(exportStamped(file, ['a'], bad, sign)).rejects.toMatchObject({ code: 'STAMP_INVALID' })
    await expect(exportStamped(file, ['a'], { ...CONTEXT, canonicalization: 'jcs' }, sign)).rejects.toMatchObject({
      code: 'STAMP_INVALID',
    })
    expect(await readdir(dir)).toEqual([])
  })

  test('a name that is taken stays as it is, unless it is to be replaced', async () => {
    await exportStamped(file, ['first'], CONTEXT, sign)
    await expect(exportStamped(file, ['second'], CONTEXT, sign)).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(await readFile(file, 'utf8')).toBe('first')
    await verifyFile()
    await exportStamped(file, ['third'], CONTEXT, sign, { replace: true })
    expect(await readFile(file, 'utf8')).toBe('third')
    await verifyFile()
    expect(await readdir(dir)).toHaveLength(2)
  })

  test('an unstamped file in its place gets no stamp', async () => {
    await writeFile(file, 'of somebody else')
    await expect(exportStamped(file, ['mine'], CONTEXT, sign)).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(await readdir(dir)).toEqual(['q3.csv'])
  })
})
