import { spawn, type ChildProcess } from 'node:child_process'
import { createPublicKey } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { compileSample, PASS, ruleSource, sampleInput, sampleSources } from '#engine/compile/fixtures/sample.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import { generateBundleKey, signBundle } from './sign.ts'

let opa: string
beforeAll(async () => {
  opa = await ensureOpa()
}, 600_000)

let directory: string | undefined
let server: ChildProcess | undefined
afterEach(async () => {
  server?.kill('SIGKILL')
  server = undefined
  if (directory !== undefined) await rm(directory, { recursive: true, force: true })
})

async function freePort(): Promise<number> {
  const probe = createServer()
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve))
  const { port } = probe.address() as AddressInfo
  await new Promise((resolve) => probe.close(resolve))
  return port
}

/** Starts `opa run --server` on a signed bundle; resolves to its address, or to what it said when it ended. */
async function startOpa(bundle: Buffer, pem: string, keyId: string): Promise<{ url: string } | { refused: string }> {
  directory = await mkdtemp(join(tmpdir(), 'signet-opa-test-'))
  await writeFile(join(directory, 'bundle.tar.gz'), bundle)
  await writeFile(join(directory, 'key.pem'), pem)
  const url = `http://127.0.0.1:${await freePort()}`
  const args = ['run', '--server', `--addr=${url.slice(7)}`, '--skip-version-check', '--bundle', 'bundle.tar.gz']
  args.push('--verification-key=key.pem', `--verification-key-id=${keyId}`, '--signing-alg=ES256')
  const child = spawn(opa, args, { cwd: directory, stdio: ['ignore', 'pipe', 'pipe'] })
  server = child
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const ended = new Promise<{ refused: string }>((resolve) => child.once('close', () => resolve({ refused: output })))
  const up = (async () => {
    for (;;) {
      const healthy = await fetch(`${url}/health`).then(
        (r) => r.ok,
        () => false,
      )
      if (healthy) return { url }
      await new Promise((resolve) => setTimeout(resolve, 50))
      if (child.exitCode !== null) return ended
    }
  })()
  return Promise.race([ended, up])
}

describe('a signed bundle', () => {
  it('is verified and evaluated by OPA itself', async () => {
    const { key, trust } = await generateBundleKey()
    const root = await compileSample(opa, await sampleSources())
    const own = await compileSample(opa, [ruleSource('own', PASS)], 'namespace/shop')
    const bundle = await signBundle({
      modules: [root, own],
      // What OPA hashes in another way than it is written, if we get it wrong.
      policy: {
        limits: { email: 2 },
        '\uffee\u2028<&>"\\': [1.5, 1e21, -0.1, true, null, '\b\u0001é'],
        '\u{1d11e}': {},
      },
      scope: 'namespace/shop',
      sequence: 1,
      issuedAt: new Date('2026-11-23T09:30:00.000Z'),
      expiresAt: new Date('2026-11-24T09:30:00.000Z'),
      key,
    })
    const pem = createPublicKey({ key: trust.keys[0]!, format: 'jwk' }).export({
      format: 'pem',
      type: 'spki',
    }) as string
    const started = await startOpa(bundle, pem, key.kid!)
    if (!('url' in started)) throw new Error(started.refused)
    const ask = async (path: string): Promise<unknown> => {
      const response = await fetch(`${started.url}/v1/data/${path}`, {
        method: 'POST',
        body: JSON.stringify({ input: sampleInput({ path: '/admin', emails: 3 }) }),
      })
      return ((await response.json()) as { result: unknown }).result
    }
    expect(await ask('signet/root/route/decision')).toMatchObject({ evaluated: true, approval_status: 'rejected' })
    expect(await ask('signet/aggregate_root/decisions')).toMatchObject({
      'personal-data': { evaluated: true, violations: [{ message: '3 e-mail addresses leave by external' }] },
    })
    expect(await ask('signet/ns_shop/own/decision')).toEqual({ evaluated: true, violations: [] })
  }, 60_000)

  it('is refused by OPA under another key', async () => {
    const { key } = await generateBundleKey()
    const stranger = await generateBundleKey()
    const root = await compileSample(opa, [ruleSource('own', PASS)])
    const issuedAt = new Date('2026-11-23T09:30:00.000Z')
    const expiresAt = new Date('2026-11-24T09:30:00.000Z')
    const bundle = await signBundle({ modules: [root], policy: {}, scope: '*', sequence: 1, issuedAt, expiresAt, key })
    const pem = createPublicKey({ key: stranger.trust.keys[0]!, format: 'jwk' }).export({ format: 'pem', type: 'spki' })
    expect(await startOpa(bundle, pem as string, key.kid!)).toMatchObject({
      refused: expect.stringMatching(/verify/) as string,
    })
  }, 60_000)
})
