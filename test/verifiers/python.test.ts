import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { canonicalize } from '#core/canonical/jcs.ts'
import { readStampVectors, STAMP_VECTORS, type StampVectorCase } from '#test/vectors/stamp-vectors.ts'

const VERIFIER = fileURLToPath(new URL('python/signet_verify.py', import.meta.url))
const KEYRING = fileURLToPath(new URL('keyring.json', STAMP_VECTORS))
const folder = mkdtempSync(path.join(tmpdir(), 'signet-python-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

let files = 0
function put(bytes: Buffer | string): string {
  const file = path.join(folder, `${++files}`)
  writeFileSync(file, bytes)
  return file
}

function python(args: string[], input = ''): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    // UTF-8 whatever the locale of the machine is.
    const child = spawn('python3', ['-X', 'utf8', '-B', ...args], { env: { PATH: process.env['PATH'] } })
    const chunks = { stdout: '', stderr: '' }
    child.stdout.on('data', (chunk: Buffer) => (chunks.stdout += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (chunks.stderr += chunk.toString()))
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, ...chunks }))
    child.stdin.end(input)
  })
}

function flags({ content, sidecar, header, expected }: StampVectorCase): string[] {
  const args = ['--keyring', KEYRING]
  if (sidecar !== undefined) args.push('--sidecar', put(sidecar))
  if (header !== undefined) args.push('--stamp-header', header)
  for (const [name, value] of Object.entries(expected)) args.push(`--${name}`, String(value))
  return [...args, put(content)]
}

beforeAll(() => {
  if (spawnSync('python3', ['--version']).status !== 0)
    throw new Error('python3 is missing: install it (Debian: apt-get install python3)')
})

describe.each(readStampVectors())('the verifier in Python, $file', ({ cases }) => {
  it.each(cases)('$name: exit $want.exit', async (vector) => {
    const { want } = vector
    const ended = await python([VERIFIER, ...flags(vector)])
    expect(ended.stderr).toBe('')
    expect(ended.stdout).toMatch(want.exit === 1 ? new RegExp(`^${want.code}: `) : new RegExp(`^${want.stamp_hash} `))
    expect(ended.code).toBe(want.exit)
  })
})

describe('the verifier in Python', () => {
  const valid = put(readFileSync(KEYRING))
  it.each([
    { what: 'no such file', args: ['--keyring', valid, path.join(folder, 'none')] },
    { what: 'no such keyring', args: ['--keyring', path.join(folder, 'none'), valid] },
    { what: 'no such sidecar', args: ['--keyring', valid, '--sidecar', path.join(folder, 'none'), valid] },
    { what: 'a keyring that is none', args: ['--keyring', put('{"version":2,"keys":[]}'), valid] },
    {
      what: 'a keyring with a key twice',
      args: ['--keyring', put(readFileSync(KEYRING, 'utf8').replaceAll('billing-2026', 'reports-2026')), valid],
    },
    { what: 'no keyring', args: [valid] },
    { what: 'another channel', args: ['--keyring', valid, '--channel', 'x', valid] },
  ])('ends with 2 for $what', async ({ args }) => {
    const ended = await python([VERIFIER, ...args])
    expect(ended).toMatchObject({ code: 2, stdout: '' })
    expect(ended.stderr).not.toContain('Traceback')
  })

  it('takes the sidecar beside the file by itself', async () => {
    const vector = readStampVectors()
      .flatMap(({ cases }) => cases)
      .find(({ name }) => name === 'sidecar')
    if (vector?.sidecar === undefined) throw new Error('no such vector')
    const file = put(vector.content)
    writeFileSync(`${file}.stamp.json`, vector.sidecar)
    expect(await python([VERIFIER, '--keyring', KEYRING, file])).toMatchObject({ code: 3, stderr: '' })
  })

  it('writes numbers and strings as core does', async () => {
    const numbers: number[] = [
      0, 1e21, 1e-7, 123456789012345680000, 5e-324, 1.7976931348623157e308, 0.1, 1e23, 9007199254740992,
    ]
    // Bit patterns from all over the range, the same in each run.
    for (
      let bits = 1n;
      numbers.length < 4_000;
      bits = (bits * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn
    ) {
      const bytes = Buffer.alloc(8)
      bytes.writeBigUInt64BE(bits)
      const number = bytes.readDoubleBE()
      if (Number.isFinite(number)) numbers.push(number)
    }
    const value = { numbers, strings: ['\u0000\u001f"\\/\u007f\u2028é😀\ufb33'], '\ufb33': 1, '😀': 2, é: 3, '': 4 }
    const script =
      'import sys, signet_verify as v; sys.stdout.buffer.write(v.canonical(v.parse_strict(sys.stdin.buffer.read())))'
    const ended = await python(
      ['-c', `import sys; sys.path.insert(0, ${JSON.stringify(path.dirname(VERIFIER))}); ${script}`],
      JSON.stringify(value),
    )
    expect(ended).toEqual({ code: 0, stdout: canonicalize(value), stderr: '' })
  })
})
