import { gunzipSync, gzipSync } from 'node:zlib'
import { CompactSign, importJWK, type JWK } from 'jose'
import { beforeAll, describe, expect, it } from 'vitest'
import type { ErrorCode } from '#core/error/codes.ts'
import { compileSample, PASS, ruleSource, sampleSources } from '#engine/compile/fixtures/sample.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import type { BundleModule } from './build.ts'
import { canonicalText, sha256Hex } from './canonical.ts'
import { loadBundle, type LoadBundleOptions, type VerifiedBundle } from './load.ts'
import { generateBundleKey, signBundle, type SignBundleOptions } from './sign.ts'
import { readTar, writeTar } from './tar.ts'
import { parseTrust, type TrustRoot } from './trust.ts'

const NOW = new Date('2026-11-23T09:30:00.000Z')
const HOUR_MS = 3_600_000

let root: BundleModule
let namespace: BundleModule
let key: JWK
let trust: TrustRoot
beforeAll(async () => {
  const opa = await ensureOpa()
  root = await compileSample(opa, await sampleSources())
  namespace = await compileSample(opa, [ruleSource('own', PASS)], 'namespace/shop')
  ;({ key, trust } = await generateBundleKey())
}, 600_000)

function sign(changes: Partial<SignBundleOptions> = {}): Promise<Buffer> {
  return signBundle({
    modules: [root],
    policy: { limits: { email: 2 } },
    scope: '*',
    sequence: 7,
    issuedAt: NOW,
    expiresAt: new Date(NOW.getTime() + HOUR_MS),
    key,
    ...changes,
  })
}

function load(bytes: Buffer, changes: Partial<LoadBundleOptions> = {}): Promise<VerifiedBundle> {
  return loadBundle(bytes, { trust, scope: 'namespace/shop', now: NOW, ...changes })
}

type Files = Map<string, Buffer>

/** Unpacks, lets `change` work on the files, packs again. With `resign`, signs what is there with the right key. */
async function tampered(bytes: Buffer, change: (files: Files) => void, resign = false): Promise<Buffer> {
  const files = readTar(gunzipSync(bytes))
  change(files)
  if (resign) {
    files.delete('.signatures.json')
    const claims = [...files].map(([name, content]) => ({ name, hash: sha256Hex(content), algorithm: 'SHA-256' }))
    files.set('.signatures.json', signatures(await jwt({ files: claims }, key, { alg: 'ES256', kid: key.kid! })))
  }
  return gzipSync(await writeTar([...files].map(([name, content]) => [`/${name}`, content])))
}

async function jwt(
  payload: object | null | undefined,
  signer: JWK | Uint8Array,
  header: { alg: string; kid?: string },
): Promise<string> {
  const material = signer instanceof Uint8Array ? signer : await importJWK(signer, 'ES256')
  return new CompactSign(Buffer.from(JSON.stringify(payload) ?? '{')).setProtectedHeader(header).sign(material)
}

function signatures(...tokens: string[]): Buffer {
  return Buffer.from(canonicalText({ signatures: tokens }))
}

type Replacement = string | ((...groups: string[]) => string)

function replaceText(files: Files, name: string, from: string | RegExp, to: Replacement): void {
  const text = files.get(name)!.toString('utf8')
  const changed = typeof to === 'string' ? text.replace(from, to) : text.replace(from, to)
  expect(changed).not.toBe(text)
  files.set(name, Buffer.from(changed))
}

function flip(files: Files, name: string, at: number): void {
  const content = Buffer.from(files.get(name)!)
  content[at < 0 ? content.length + at : at]! ^= 1
  files.set(name, content)
}

describe('loadBundle', () => {
  it('reads what signBundle made', async () => {
    const bundle = await load(await sign({ modules: [root, namespace], scope: 'namespace/shop' }))
    expect(bundle.metadata).toMatchObject({
      version: 1,
      scope: 'namespace/shop',
      sequence: 7,
      issued_at: NOW.toISOString(),
    })
    expect(bundle.modules.map(({ module }) => module)).toEqual([root.module, namespace.module])
    expect(bundle.modules[0]!.wasm.equals(root.wasm)).toBe(true)
    expect(bundle.policy).toEqual({ limits: { email: 2 } })
    expect(bundle.keyId).toBe(key.kid)
    expect(bundle.revision).toBe(`7-${bundle.digest.slice(0, 16)}`)
  })

  it('gives a revision that depends on the content and the sequence only', async () => {
    const first = await load(await sign())
    const later = await load(await sign({ issuedAt: new Date(NOW.getTime() - 1000) }))
    const next = await load(await sign({ sequence: 8 }))
    const other = await load(await sign({ policy: { limits: { email: 3 } } }))
    expect(later.revision).toBe(first.revision)
    expect(next.revision).toBe(`8-${first.digest.slice(0, 16)}`)
    expect(other.digest).not.toBe(first.digest)
  })

  it('makes the same bytes again but for the signature', async () => {
    const [first, second] = [await sign(), await sign()].map((bytes) => {
      const files = readTar(gunzipSync(bytes))
      files.delete('.signatures.json')
      return [...files]
    })
    expect(first).toEqual(second)
  })

  it.each([
    ['scope *', { scope: '*' }, { scope: 'namespace/shop' }, undefined],
    ['its own scope', { scope: 'namespace/shop' }, { scope: 'namespace/shop' }, undefined],
    ['another namespace’s scope', { scope: 'namespace/bank' }, { scope: 'namespace/shop' }, 'BUNDLE_SCOPE'],
    ['a namespace’s where it has none', { scope: 'namespace/shop' }, { scope: '*' }, 'BUNDLE_SCOPE'],
    ['the sequence in force', {}, { minimumSequence: 7 }, undefined],
    ['a lower sequence', {}, { minimumSequence: 8 }, 'BUNDLE_STALE'],
    ['the last valid millisecond', {}, { now: new Date(NOW.getTime() + HOUR_MS - 1) }, undefined],
    ['the moment of expiry', {}, { now: new Date(NOW.getTime() + HOUR_MS) }, 'BUNDLE_EXPIRED'],
    ['a clock five minutes behind', {}, { now: new Date(NOW.getTime() - 300_000) }, undefined],
    ['a clock further behind', {}, { now: new Date(NOW.getTime() - 300_001) }, 'BUNDLE_EXPIRED'],
  ] as [string, Partial<SignBundleOptions>, Partial<LoadBundleOptions>, ErrorCode | undefined][])(
    'judges %s',
    async (_, signed, loaded, wantCode) => {
      const result = load(await sign(signed), loaded)
      if (wantCode === undefined) await expect(result).resolves.toBeDefined()
      else await expect(result).rejects.toMatchObject({ code: wantCode })
    },
  )

  it.each([
    ['a wasm byte', (files) => flip(files, 'root/policy.wasm', 5000), 'BUNDLE_UNTRUSTED'],
    ['the first wasm byte', (files) => flip(files, 'root/policy.wasm', 0), 'BUNDLE_UNTRUSTED'],
    ['the last wasm byte', (files) => flip(files, 'root/policy.wasm', -1), 'BUNDLE_UNTRUSTED'],
    ['policy data', (files) => replaceText(files, 'data.json', '2', '9'), 'BUNDLE_UNTRUSTED'],
    ['white space in policy data', (files) => replaceText(files, 'data.json', ':', ': '), 'BUNDLE_UNTRUSTED'],
    ['the sequence', (files) => replaceText(files, '.manifest', '"sequence":7', '"sequence":8'), 'BUNDLE_UNTRUSTED'],
    [
      'a rule’s mode',
      (files) => replaceText(files, '.manifest', '"mode":"enforce"', '"mode":"off"'),
      'BUNDLE_UNTRUSTED',
    ],
    [
      'the expiry',
      (files) => replaceText(files, '.manifest', '"expires_at":"2026', '"expires_at":"2036'),
      'BUNDLE_UNTRUSTED',
    ],
    ['an added file', (files) => files.set('extra.rego', Buffer.from('package extra')), 'BUNDLE_UNTRUSTED'],
    ['a removed file', (files) => files.delete('data.json'), 'BUNDLE_UNTRUSTED'],
    ['a removed module', (files) => files.delete('root/policy.wasm'), 'BUNDLE_UNTRUSTED'],
    [
      'a renamed file',
      (files) => {
        files.set('root.wasm', files.get('root/policy.wasm')!)
        files.delete('root/policy.wasm')
      },
      'BUNDLE_UNTRUSTED',
    ],
    ['no signature', (files) => files.delete('.signatures.json'), 'BUNDLE_UNTRUSTED'],
    ['an empty signature file', (files) => files.set('.signatures.json', Buffer.alloc(0)), 'BUNDLE_UNTRUSTED'],
    ['no signature in the list', (files) => files.set('.signatures.json', signatures()), 'BUNDLE_UNTRUSTED'],
    ['a signature that is no JWT', (files) => files.set('.signatures.json', signatures('a.b')), 'BUNDLE_UNTRUSTED'],
    [
      'two signatures',
      (files) => {
        const token = (JSON.parse(files.get('.signatures.json')!.toString()) as { signatures: string[] }).signatures[0]!
        files.set('.signatures.json', signatures(token, token))
      },
      'BUNDLE_UNTRUSTED',
    ],
    [
      'the signature’s header',
      (files) => replaceText(files, '.signatures.json', /"ey(.)/, (_, c) => `"ey${c === 'J' ? 'K' : 'J'}`),
      'BUNDLE_UNTRUSTED',
    ],
    [
      'the signature’s payload',
      (files) => replaceText(files, '.signatures.json', /\.ey(.)/, '.ez$1'),
      'BUNDLE_UNTRUSTED',
    ],
    [
      'the signature’s last but one character',
      (files) =>
        replaceText(files, '.signatures.json', /(.)(..)"\]/, (_, c, rest) => `${c === 'A' ? 'B' : 'A'}${rest}"]`),
      'BUNDLE_UNTRUSTED',
    ],
  ] as [string, (files: Files) => void, ErrorCode][])('notices a change of %s', async (_, change, wantCode) => {
    await expect(load(await tampered(await sign(), change))).rejects.toMatchObject({ code: wantCode })
  })

  it('takes no algorithm and no key from the token', async () => {
    const stranger = await generateBundleKey()
    const claims = (files: Files): object => ({
      files: [...files]
        .filter(([name]) => name !== '.signatures.json')
        .map(([name, content]) => ({ name, hash: sha256Hex(content), algorithm: 'SHA-256' })),
    })
    const bytes = await sign()
    const payload = claims(readTar(gunzipSync(bytes)))
    const publicText = Buffer.from(JSON.stringify(trust.keys[0]))
    const unsigned = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from(JSON.stringify(payload)).toString('base64url')}.`
    const tokens: Record<string, string> = {
      'a stranger’s key under its own id': await jwt(payload, stranger.key, { alg: 'ES256', kid: stranger.key.kid! }),
      'a stranger’s key under our id': await jwt(payload, stranger.key, { alg: 'ES256', kid: key.kid! }),
      'our key without id': await jwt(payload, key, { alg: 'ES256' }),
      'HMAC with our public key': await jwt(payload, publicText, { alg: 'HS256', kid: key.kid! }),
      'alg none': unsigned,
    }
    for (const [what, token] of Object.entries(tokens)) {
      const forged = await tampered(bytes, (files) => files.set('.signatures.json', signatures(token)))
      await expect(load(forged), what).rejects.toMatchObject({ code: 'BUNDLE_UNTRUSTED' })
    }
    const same = await tampered(bytes, (files) => files, true)
    await expect(load(same)).resolves.toBeDefined()
  })

  it.each([
    [
      'weak hashes',
      (files: Files) => ({ files: [...files.keys()].map((name) => ({ name, hash: 'd41d8cd9', algorithm: 'MD5' })) }),
    ],
    ['no files', () => ({})],
    ['null', () => null],
    ['no JSON', () => undefined],
  ])('refuses a signature over %s', async (_, claims) => {
    const bytes = await sign()
    const token = await jwt(claims(readTar(gunzipSync(bytes))), key, { alg: 'ES256', kid: key.kid! })
    const forged = await tampered(bytes, (files) => files.set('.signatures.json', signatures(token)))
    await expect(load(forged)).rejects.toMatchObject({ code: 'BUNDLE_UNTRUSTED' })
  })

  it.each([
    ['a file that is not ours', (files) => files.set('extra.rego', Buffer.from('package extra'))],
    ['white space', (files) => replaceText(files, 'data.json', ':', ': ')],
    ['a name twice', (files) => replaceText(files, 'data.json', '{"policy"', '{"policy":{},"policy"')],
    ['data outside policy', (files) => replaceText(files, 'data.json', '{"policy"', '{"other":1,"policy"')],
    ['another revision', (files) => replaceText(files, '.manifest', /"revision":"7-./, '"revision":"7-z')],
    ['no metadata', (files) => files.set('.manifest', Buffer.from('{}'))],
    ['a null manifest', (files) => files.set('.manifest', Buffer.from('null'))],
    ['null data', (files) => files.set('data.json', Buffer.from('null'))],
    ['a null module', (files) => replaceText(files, '.manifest', /"modules":\[/, '"modules":[null,')],
    ['a version to come', (files) => replaceText(files, '.manifest', '"version":1', '"version":2')],
    [
      'an entrypoint outside the scope',
      (files) => replaceText(files, '.manifest', /signet\/root\/route/g, 'signet/ns_a/route'),
    ],
    ['no JSON', (files) => files.set('.manifest', Buffer.from('{'))],
  ] as [string, (files: Files) => void][])('refuses %s even with a good signature', async (_, change) => {
    const bytes = await tampered(await sign(), change, true)
    await expect(load(bytes)).rejects.toMatchObject({ code: 'BUNDLE_INVALID' })
  })

  it('refuses parts that do not fit together when signing', async () => {
    await expect(sign({ modules: [namespace] })).rejects.toMatchObject({ code: 'BUNDLE_INVALID' })
    await expect(sign({ modules: [root, namespace], scope: 'namespace/bank' })).rejects.toMatchObject({
      code: 'BUNDLE_INVALID',
    })
    await expect(sign({ modules: [root, root], scope: '*' })).rejects.toMatchObject({ code: 'BUNDLE_INVALID' })
    await expect(sign({ scope: 'shop' })).rejects.toMatchObject({ code: 'BUNDLE_INVALID' })
    await expect(sign({ sequence: -1 })).rejects.toMatchObject({ code: 'BUNDLE_INVALID' })
    await expect(sign({ expiresAt: NOW })).rejects.toMatchObject({ code: 'BUNDLE_INVALID' })
  })

  it.each([
    ['nothing', () => Buffer.alloc(0)],
    ['garbage', () => Buffer.alloc(1000, 'x')],
    ['gzip of garbage', () => gzipSync(Buffer.alloc(1000, 'x'))],
    ['a cut bundle', (bytes: Buffer) => bytes.subarray(0, bytes.length / 2)],
    [
      'a bundle with garbage inside',
      (bytes: Buffer) => Buffer.concat([bytes.subarray(0, 100), Buffer.alloc(50), bytes.subarray(150)]),
    ],
    ['an archive that unpacks to more than 64 MiB', () => gzipSync(Buffer.alloc(65 << 20))],
    ['a file of more than 16 MiB', () => Buffer.alloc((16 << 20) + 1)],
  ] as [string, (bytes: Buffer) => Buffer][])('refuses %s', async (_, make) => {
    await expect(load(make(await sign()))).rejects.toMatchObject({ code: 'BUNDLE_INVALID' })
  })

  it('after any single changed byte gives the same content or an error', async () => {
    const bytes = await sign()
    const archive = gunzipSync(bytes)
    const { digest } = await load(bytes)
    // Every region: headers, JSON, signature closely; the wasm in strides.
    const wasmStart = archive.indexOf('\0asm')
    for (
      let at = 0;
      at < archive.length;
      at += at > wasmStart && at < wasmStart + root.wasm.length - 600 ? 9_973 : 37
    ) {
      const changed = Buffer.from(archive)
      changed[at]! ^= 0x20
      const result = await load(gzipSync(changed, { level: 1 })).then(
        (bundle) => bundle.digest,
        (error: { code: string }) => error.code,
      )
      expect([digest, 'BUNDLE_UNTRUSTED', 'BUNDLE_INVALID'], `byte ${at}`).toContain(result)
      if (result === digest) expect(readTar(changed)).toEqual(readTar(archive))
    }
  }, 60_000)
})

describe('parseTrust', () => {
  it.each([
    ['no JSON', '{', /not JSON/],
    ['no keys', '{"keys":[]}', /keys/],
    ['another curve', '{"keys":[{"kty":"EC","crv":"P-384","x":"a","y":"b","kid":"k"}]}', /crv|x/],
  ])('refuses %s', (_, text, want) => {
    expect(() => parseTrust(text)).toThrow(want)
  })

  it('takes public keys with distinct ids, and no private one', () => {
    expect(parseTrust(JSON.stringify(trust))).toEqual(trust)
    expect(() => parseTrust(JSON.stringify({ keys: [key] }))).toThrow()
    expect(() => parseTrust(JSON.stringify({ keys: [trust.keys[0], trust.keys[0]] }))).toThrow(/same kid/)
  })
})
