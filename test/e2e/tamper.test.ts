import { randomInt } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { SignetError } from '#core/error/signet-error.ts'
import { findStamps } from '#core/stamp/content.ts'
import type { Channel } from '#core/stamp/schema.ts'
import { extractStamp } from '#core/stamp/splice.ts'
import { targetDigest } from '#core/stamp/subject.ts'
import { verifyStamp } from '#core/stamp/verify.ts'
import { startFakeLedger, type FakeLedger } from '#test/support/fake-ledger.ts'
import { CLIENTS } from '#test/support/http-clients.ts'
import { ledgerAccess } from '#test/support/proxy-fixture.ts'
import { startProxyStack, type ProxyStack } from '#test/support/proxy-stack.ts'
import {
  readDataSet,
  startFileServer,
  startJsonServer,
  type FileService,
  type RealService,
} from '#test/support/real-services.ts'
import { locateStamp, openVerifiers, type Claim, type Evidence, type Verifiers } from '#test/support/verifiers.ts'

/** Answers of real services, stamped by the proxy, and then changed or moved: the core, the command line tool and the verifier in Python must all see it. */
let fakeLedger: FakeLedger
let services: [RealService, FileService]
let proxies: { json: ProxyStack; files: ProxyStack }
let verifiers: Verifiers

type Kept = { readonly evidence: Evidence; readonly claim: Claim; readonly proxy: ProxyStack }
const kept = {} as Record<'item' | 'list' | 'csv' | 'object' | 'empty' | 'sidecar', Kept>
type Name = keyof typeof kept

beforeAll(async () => {
  fakeLedger = await startFakeLedger()
  verifiers = await openVerifiers()
  services = await Promise.all([startJsonServer(), startFileServer()])
  const access = ledgerAccess(fakeLedger)
  const [json, files] = await Promise.all(services.map(({ url }) => startProxyStack({ upstream: url, ledger: access })))
  if (json === undefined || files === undefined) throw new Error('no proxies')
  proxies = { json, files }
  await Promise.all([json.ready(), files.ready()])
  kept.item = await keep(json, '/cars/12')
  kept.list = await keep(json, '/cars?_limit=2')
  kept.csv = await keep(files, '/data/iowa-electricity.csv')
  kept.object = await keep(files, '/data/world-110m.json')
  kept.empty = await keep(files, '/data/stocks.csv', { method: 'HEAD' })
  const stamp = await CLIENTS.fetch({
    url: `${files.external}/data/flare.json.stamp.json`,
    method: 'GET',
    headers: {},
    body: null,
  })
  kept.sidecar = {
    evidence: { body: await readDataSet('flare.json'), place: 'sidecar', stamp: stamp.body },
    claim: { target: '/data/flare.json', method: 'GET', status: 200, tenant: files.tenant, channel: 'external' },
    proxy: files,
  }
})
afterAll(async () => {
  await Promise.all([proxies?.json.stop(), proxies?.files.stop()])
  await Promise.all((services ?? []).map((service) => service.stop()))
  await fakeLedger?.stop()
  await verifiers?.close()
})

async function keep(
  proxy: ProxyStack,
  target: string,
  { method = 'GET', channel = 'external' }: { method?: string; channel?: Channel } = {},
): Promise<Kept> {
  const url = proxy[channel] + target
  const answer = await CLIENTS.fetch({ url, method, headers: {}, body: null })
  const evidence = await locateStamp(url, answer)
  if (evidence === null) throw new Error(`${url} has no stamp`)
  return { evidence, claim: { target, method, status: answer.status, tenant: proxy.tenant, channel }, proxy }
}

/** As a verifier does, from the saved answer alone. @throws SignetError when it does not verify */
function check({ proxy }: Kept, { body, place, stamp }: Evidence, { target, ...rest }: Claim): void {
  const expected = { ...rest, target_digest: targetDigest(target) }
  const beside = {
    header: place === 'header' ? String(stamp) : undefined,
    sidecar: place === 'sidecar' ? (stamp as Buffer) : undefined,
  }
  const { payload, stamps } = findStamps(body, beside)
  for (const stampBytes of stamps) verifyStamp({ stampBytes, payload, keyring: proxy.keyring, expected })
}

/** Null when it verifies, which is what must not happen. @throws what is no SignetError */
function caught(of: Kept, evidence: Evidence, claim: Claim = of.claim): string | null {
  try {
    check(of, evidence, claim)
    return null
  } catch (error) {
    if (error instanceof SignetError) return error.code
    throw error
  }
}

function flip(bytes: Buffer, offset: number, mask: number): Buffer {
  const changed = Buffer.from(bytes)
  changed.writeUInt8(changed.readUInt8(offset) ^ mask, offset)
  return changed
}

/** The same answer with one byte changed: in the body, or in the stamp that came beside it. */
function withBody({ evidence }: Kept, body: Buffer): Evidence {
  return { ...evidence, body }
}
function withStamp({ evidence }: Kept, stamp: Buffer): Evidence {
  return { ...evidence, stamp: evidence.place === 'header' ? stamp.toString('latin1') : stamp }
}
function stampOf({ evidence }: Kept): Buffer {
  return Buffer.from((evidence.stamp ?? '') as string, 'latin1')
}

async function verdicts(
  list: readonly { of: Kept; evidence: Evidence; claim?: Partial<Claim> }[],
  by: 'cli' | 'python',
) {
  const lines = await Promise.all(
    list.map(({ of, evidence, claim }) => verifiers.commandLine(evidence, of.proxy.keyringFile, claim ?? of.claim)),
  )
  return verifiers[by](lines)
}

const ALL: Name[] = ['item', 'list', 'csv', 'object', 'empty', 'sidecar']

test('untouched, each verifies; by all three, in its own place', async () => {
  expect(ALL.map((name) => kept[name].evidence.place)).toEqual([
    'embedded',
    'header',
    'header',
    'embedded',
    'header',
    'sidecar',
  ])
  for (const name of ALL) expect(caught(kept[name], kept[name].evidence), name).toBeNull()
  const list = ALL.map((name) => ({ of: kept[name], evidence: kept[name].evidence }))
  expect((await verdicts(list, 'cli')).map(({ code }) => code)).toEqual(ALL.map(() => 0))
  expect((await verdicts(list, 'python')).map(({ code }) => code)).toEqual(ALL.map(() => 0))
})

describe('a changed byte', () => {
  /** Offsets of a body: all of a small one; of a large one all of the stamp and what surrounds it, and 600 of the rest. */
  function offsets(body: Buffer): number[] {
    if (body.length <= 4_096) return [...body.keys()]
    const stampAt = body.lastIndexOf('"_compliance":')
    const from = stampAt === -1 ? body.length - 64 : stampAt - 64
    return [
      ...Array.from({ length: 600 }, () => randomInt(from)),
      ...Array.from({ length: body.length - from }, (_, i) => from + i),
    ]
  }

  test.each(['item', 'list', 'csv', 'object', 'sidecar'] as const)('anywhere in the body of %s', (name) => {
    const { body } = kept[name].evidence
    const missed: string[] = []
    for (const offset of offsets(body)) {
      // Every bit of a small body; of a large one one bit, one letter's case, and another byte altogether.
      const masks = body.length <= 4_096 ? [1, 2, 4, 8, 16, 32, 64, 128] : [1, 32, randomInt(1, 256)]
      for (const mask of masks) {
        if (caught(kept[name], withBody(kept[name], flip(body, offset, mask))) === null)
          missed.push(`${offset} ^ ${mask}`)
      }
    }
    expect(missed).toEqual([])
  })

  test.each(['list', 'csv', 'empty', 'sidecar'] as const)('anywhere in the stamp beside %s', (name) => {
    const stamp = stampOf(kept[name])
    const missed: string[] = []
    for (const offset of stamp.keys()) {
      for (const mask of [1, 2, 4, 8, 16, 32, 64, 128]) {
        if (caught(kept[name], withStamp(kept[name], flip(stamp, offset, mask))) === null)
          missed.push(`${offset} ^ ${mask}`)
      }
    }
    expect(missed).toEqual([])
  })

  test('is caught by the command line tool and by the verifier in Python as well', async () => {
    const all = ALL.flatMap((name) => {
      const of = kept[name]
      const { body } = of.evidence
      const stamp = stampOf(of)
      const bodies =
        body.length === 0
          ? []
          : Array.from({ length: 60 }, (_, i) =>
              withBody(of, flip(body, Math.floor((i / 60) * body.length), randomInt(1, 256))),
            )
      // The last 2 KB hold the stamp where it is inside.
      const ends =
        of.evidence.place === 'embedded'
          ? Array.from({ length: 60 }, () =>
              withBody(of, flip(body, body.length - 1 - randomInt(1_100), randomInt(1, 256))),
            )
          : []
      const stamps =
        stamp.length === 0
          ? []
          : Array.from({ length: 60 }, (_, i) =>
              withStamp(of, flip(stamp, Math.floor((i / 60) * stamp.length), 1 << (i % 7))),
            )
      return [...bodies, ...ends, ...stamps].map((evidence) => ({ of, evidence, name }))
    })
    const byPython = await verdicts(all, 'python')
    expect(byPython.filter(({ code }) => code !== 1)).toEqual([])
    // A process each: a sample.
    const sample = all.filter((_, index) => index % 29 === 0)
    const byCli = await verdicts(sample, 'cli')
    expect(byCli.filter(({ code }) => code !== 1)).toEqual([])
    expect(new Set(sample.map(({ name }) => name)).size).toBe(ALL.length)
  })
})

describe('bytes added, taken away, or put elsewhere', () => {
  const cases: { name: string; of: Name; change: (body: Buffer) => Buffer }[] = [
    { name: 'a line feed at the end', of: 'item', change: (body) => Buffer.concat([body, Buffer.from('\n')]) },
    {
      name: 'a space before the stamp',
      of: 'item',
      change: (body) => replaced(body, ',"_compliance"', ', "_compliance"'),
    },
    {
      name: 'a space inside the stamp',
      of: 'item',
      change: (body) => replaced(body, '"stamp_version":', '"stamp_version": '),
    },
    {
      name: 'an escape in its name',
      of: 'item',
      change: (body) => replaced(body, '"_compliance"', '"\\u005fcompliance"'),
    },
    { name: 'a second one before it', of: 'item', change: (body) => replaced(body, '{', '{"_compliance":{},') },
    {
      name: 'another member after it',
      of: 'item',
      change: (body) => Buffer.concat([body.subarray(0, -1), Buffer.from(',"x":1}')]),
    },
    {
      name: 'another member before it',
      of: 'item',
      change: (body) => replaced(body, ',"_compliance"', ',"x":1,"_compliance"'),
    },
    { name: 'a byte order mark', of: 'item', change: (body) => Buffer.concat([Buffer.from('\ufeff'), body]) },
    {
      name: 'the same JSON, printed anew',
      of: 'item',
      change: (body) => Buffer.from(JSON.stringify(JSON.parse(body.toString()))),
    },
    { name: 'the last byte cut off', of: 'csv', change: (body) => body.subarray(0, -1) },
    { name: 'a line feed at the end', of: 'csv', change: (body) => Buffer.concat([body, Buffer.from('\n')]) },
    { name: 'two rows swapped', of: 'csv', change: (body) => Buffer.from(swapped(body.toString())) },
    { name: 'nothing left', of: 'csv', change: () => Buffer.alloc(0) },
    { name: 'something where nothing was', of: 'empty', change: () => Buffer.from('x') },
  ]
  test.each(cases)('$name ($of)', async ({ of, change }) => {
    const evidence = withBody(kept[of], change(kept[of].evidence.body))
    expect(evidence.body.equals(kept[of].evidence.body)).toBe(false)
    expect(caught(kept[of], evidence)).not.toBeNull()
    expect(await verdicts([{ of: kept[of], evidence }], 'python')).toMatchObject([{ code: 1 }])
    expect(await verdicts([{ of: kept[of], evidence }], 'cli')).toMatchObject([{ code: 1 }])
  })

  test('cut off anywhere', () => {
    const { body } = kept.item.evidence
    for (const length of body.keys())
      expect(caught(kept.item, withBody(kept.item, body.subarray(0, length))), String(length)).not.toBeNull()
  })
})

function replaced(body: Buffer, needle: string, by: string): Buffer {
  const at = body.indexOf(needle)
  return Buffer.concat([body.subarray(0, at), Buffer.from(by), body.subarray(at + needle.length)])
}

function swapped(text: string): string {
  const lines = text.split('\n')
  ;[lines[1], lines[2]] = [lines[2] ?? '', lines[1] ?? '']
  return lines.join('\n')
}

describe('a stamp moved', () => {
  const moves: { to: string; claim: Partial<Claim> }[] = [
    { to: 'another path', claim: { target: '/cars/13' } },
    { to: 'another query', claim: { target: '/cars/12?_embed=owner' } },
    { to: 'the same path in other bytes', claim: { target: '/cars/%312' } },
    { to: 'another method', claim: { method: 'POST' } },
    { to: 'another status', claim: { status: 404 } },
    { to: 'another tenant', claim: { tenant: 'globex' } },
    { to: 'the other channel', claim: { channel: 'internal' } },
  ]
  test.each(moves)('to $to', async ({ claim }) => {
    for (const name of ALL) {
      expect(
        caught(kept[name], kept[name].evidence, {
          ...kept[name].claim,
          ...claim,
          ...(name === 'empty' && claim.method ? { method: 'GET' } : {}),
        }),
      ).toBe('STAMP_SUBJECT_MISMATCH')
    }
    const list = [{ of: kept.item, evidence: kept.item.evidence, claim: { ...kept.item.claim, ...claim } }]
    for (const by of ['cli', 'python'] as const) {
      const [verdict] = await verdicts(list, by)
      expect(verdict).toMatchObject({ code: 1, output: expect.stringContaining('STAMP_SUBJECT_MISMATCH') })
    }
  })

  test('between real answers with the same body: the other channel, a sidecar and a header of another file, 404 on 200', async () => {
    const { json, files } = proxies
    const inside = await keep(files, '/data/iowa-electricity.csv', { channel: 'internal' })
    const other = await keep(files, '/data/stocks.csv')
    const sidecar = await CLIENTS.curl({
      url: `${files.external}/data/stocks.csv.stamp.json`,
      method: 'GET',
      headers: {},
      body: null,
    })
    const head = await keep(files, '/data/iowa-electricity.csv', { method: 'HEAD' })
    const [missing, missingToo] = [await keep(json, '/cars/90001'), await keep(json, '/cars/90002')]
    expect(inside.evidence.body.equals(kept.csv.evidence.body)).toBe(true)
    expect(missing.evidence.body.subarray(0, 15)).toEqual(missingToo.evidence.body.subarray(0, 15))
    const grafted = graft(kept.item.evidence.body, missing.evidence.body)
    const wrong: { name: string; of: Kept; evidence: Evidence; want: string }[] = [
      {
        name: 'channel',
        of: kept.csv,
        evidence: { ...kept.csv.evidence, stamp: inside.evidence.stamp },
        want: 'STAMP_SUBJECT_MISMATCH',
      },
      {
        name: 'header',
        of: kept.csv,
        evidence: { ...kept.csv.evidence, stamp: other.evidence.stamp },
        want: 'STAMP_PAYLOAD_MISMATCH',
      },
      {
        name: 'sidecar',
        of: kept.csv,
        evidence: { ...kept.csv.evidence, place: 'sidecar', stamp: sidecar.body },
        want: 'STAMP_PAYLOAD_MISMATCH',
      },
      {
        name: 'HEAD',
        of: kept.csv,
        evidence: { ...kept.csv.evidence, stamp: head.evidence.stamp },
        want: 'STAMP_PAYLOAD_MISMATCH',
      },
      { name: 'the same error elsewhere', of: missing, evidence: missingToo.evidence, want: 'STAMP_SUBJECT_MISMATCH' },
      {
        name: 'the stamp of another object',
        of: kept.item,
        evidence: withBody(kept.item, grafted),
        want: 'STAMP_PAYLOAD_MISMATCH',
      },
      {
        name: 'another service',
        of: { ...kept.csv, proxy: json },
        evidence: kept.csv.evidence,
        want: 'STAMP_MAC_MISMATCH',
      },
    ]
    for (const { name, of, evidence, want } of wrong) expect([name, caught(of, evidence)]).toEqual([name, want])
    for (const by of ['cli', 'python'] as const) {
      const found = await verdicts(wrong, by)
      for (const [index, { name, want }] of wrong.entries()) {
        expect([name, found[index]]).toEqual([
          name,
          expect.objectContaining({ code: 1, output: expect.stringContaining(want) }),
        ])
      }
    }
  })

  test('without saying what is expected, the most that is said is: intact (exit 3)', async () => {
    const parts: Partial<Claim>[] = [
      {},
      { target: '/cars/12' },
      { method: 'GET', status: 200, tenant: 'acme', channel: 'external' },
    ]
    const list = parts.map((claim) => ({ of: kept.item, evidence: kept.item.evidence, claim }))
    for (const by of ['cli', 'python'] as const)
      expect((await verdicts(list, by)).map(({ code }) => code)).toEqual([3, 3, 3])
  })
})

/** The payload of one object with the stamp of another. */
function graft(body: Buffer, donor: Buffer): Buffer {
  const stamp = extractStamp(donor)?.stampBytes
  const payload = extractStamp(body)?.payload
  if (stamp === undefined || payload === undefined) throw new Error('no stamp to graft')
  const end = payload.lastIndexOf('}')
  return Buffer.concat([payload.subarray(0, end), Buffer.from(',"_compliance":'), stamp, payload.subarray(end)])
}
