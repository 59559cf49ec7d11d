import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { indexKeyring } from '#core/keyring/keyring.ts'
import { embedStamp } from '#core/stamp/splice.ts'
import { CLAIMS, KEYRING, stampOf } from '#core/stamp/stamp.fixture.ts'
import { exchange } from '#test/support/http-exchange.ts'
import {
  digestOf,
  PASS_RULE,
  startProxyFixture,
  subjectOf,
  until,
  verifyAnswer,
  type ProxyFixture,
} from '#test/support/proxy-fixture.ts'

const FORGED_STAMP_RULE = {
  path: 'forged_stamp.rego',
  text: readFileSync(new URL('../../policies/standard/forged_stamp.rego', import.meta.url), 'utf8'),
}

let fixture: ProxyFixture
beforeAll(async () => {
  fixture = await startProxyFixture({ rules: [PASS_RULE, FORGED_STAMP_RULE] })
})
afterAll(() => fixture.stop())

function answerWith(body: string | Buffer, headers: Record<string, string> = {}): void {
  fixture.upstream.answer = (_request, response) =>
    response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(body)
}

async function own(target: string, headers: Record<string, string> = {}) {
  answerWith('{"a":1}', headers)
  const answer = await exchange(fixture.stack.external + target)
  return {
    answer,
    ...verifyAnswer(fixture.stack, answer, subjectOf(fixture.stack, { target, mediaType: 'application/json' })),
  }
}

const FORGERIES = [
  { name: 'a made-up stamp', body: '{"a":1,"_compliance":{"approval_status":"approved"}}', wantStripped: '{"a":1}' },
  { name: 'an escaped name', body: '{"\\u005fcompliance":{"x":1},"a":1}', wantStripped: '{"a":1}' },
  {
    name: 'a wholly escaped name',
    body: `{"a":1,"${Array.from('_compliance', (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`).join('')}":1}`,
    wantStripped: '{"a":1}',
  },
  { name: 'twice', body: '{"_compliance":1,"a":1,"_compliance":2}', wantStripped: '{"a":1}' },
  { name: 'not last', body: '{"_compliance":{},"a":1}', wantStripped: '{"a":1}' },
  { name: 'alone', body: '{"_compliance":null}', wantStripped: '{}' },
] as const

test.each(FORGERIES)('a forgery is refused: $name', async ({ body }) => {
  answerWith(body)
  const answer = await exchange(`${fixture.stack.external}/forged`)
  expect(answer.status).toBe(422)
  const problem = JSON.parse(answer.body.toString()) as { violations: { rule: string }[]; request_id: string }
  expect(problem.violations.map(({ rule }) => rule)).toEqual(['forged-stamp'])
  const [event] = await fixture.events(problem.request_id)
  expect(event).toMatchObject({ event_type: 'egress.refused', action: 'refuse', outcome: 'denied', stamp_hash: null })
})

test('a stamp of ours that was changed, or sits over other bytes, is a forgery', async () => {
  const { answer } = await own('/x')
  for (const body of [
    answer.body.toString().replace('"a":1', '"a":2'),
    answer.body.toString().replace('"public"', '"internal"'),
    answer.body.toString().replace(',"_compliance"', ', "_compliance"'),
  ]) {
    answerWith(body)
    expect((await exchange(`${fixture.stack.external}/x`)).status).toBe(422)
  }
})

test('nested names stay, and so do similar ones', async () => {
  const body = '{"inner":{"_compliance":{"x":1}},"_Compliance":2,"_compliance ":3}'
  answerWith(body)
  const answer = await exchange(`${fixture.stack.external}/nested`)
  const verified = verifyAnswer(
    fixture.stack,
    answer,
    subjectOf(fixture.stack, { target: '/nested', mediaType: 'application/json' }),
  )
  expect(verified.payload.toString()).toBe(body)
})

test('a stamp that verifies is replaced, and named in source_assets', async () => {
  const first = await own('/first')
  answerWith(first.answer.body)
  const answer = await exchange(`${fixture.stack.external}/second`)
  const second = verifyAnswer(
    fixture.stack,
    answer,
    subjectOf(fixture.stack, { target: '/second', mediaType: 'application/json' }),
  )
  expect(second.payload.toString()).toBe('{"a":1}')
  expect(second.stamp.data_lineage.source_assets).toEqual([`urn:signet:stamp@${first.hash}`])
  expect(second.hash).not.toBe(first.hash)
})

describe('a stamp of another producer of the tenant', () => {
  const keys = indexKeyring(KEYRING)
  /** What a service that got its answer from another Signet service passes on. */
  const foreign = (payload: string, tenant = 'acme'): { body: Buffer; hash: string } => {
    const bytes = Buffer.from(payload)
    const claims = { ...CLAIMS, subject: { ...CLAIMS.subject, tenant } }
    const stamp = stampOf(bytes, { keyId: tenant === 'acme' ? 'reports-2026' : 'globex-2026', claims })
    return { body: embedStamp(bytes, bytes.length - 1, false, stamp.jcs), hash: stamp.hash }
  }
  const asked = (result: string): Promise<number> =>
    fixture.stack.sample(`signet_stamps_asked_total{result="${result}"}`)
  beforeAll(() => {
    fixture.ledger.stampKeys = keys
  })

  test('is replaced and named as a source, since the ledger vouches for it', async () => {
    const { body, hash } = foreign('{"from":"reports"}')
    answerWith(body)
    const [first, again] = [
      await exchange(`${fixture.stack.external}/x`),
      await exchange(`${fixture.stack.external}/y`),
    ]
    for (const [answer, target] of [
      [first, '/x'],
      [again, '/y'],
    ] as const) {
      const subject = subjectOf(fixture.stack, { target, mediaType: 'application/json' })
      const verified = verifyAnswer(fixture.stack, answer, subject)
      expect(verified.payload.toString()).toBe('{"from":"reports"}')
      expect(verified.stamp.data_lineage.source_assets).toEqual([`urn:signet:stamp@${hash}`])
    }
    expect(await asked('verified')).toBe(1)
  })

  test.each([
    { name: 'changed', body: foreign('{"from":1}').body.toString().replace('"internal"', '"public"') },
    { name: 'over other content', body: foreign('{"from":2}').body.toString().replace('"from":2', '"from":3') },
    { name: 'of another tenant', body: foreign('{"from":4}', 'globex').body },
    {
      name: 'with a key that nobody has',
      body: foreign('{"from":5}').body.toString().replace('reports-2026', 'reports-2027'),
    },
  ])('is a forgery where it is $name', async ({ body }) => {
    answerWith(body)
    expect((await exchange(`${fixture.stack.external}/x`)).status).toBe(422)
  })

  test('is unverified, and so a forgery, where the ledger cannot be asked; it is waited for a second', async () => {
    const { body } = foreign('{"from":"away"}')
    answerWith(body)
    fixture.ledger.troubles.stamps.push({ kind: 'hang' })
    const startedMs = performance.now()
    expect((await exchange(`${fixture.stack.external}/x`)).status).toBe(422)
    expect(performance.now() - startedMs).toBeGreaterThan(900)
    expect((await exchange(`${fixture.stack.external}/x`)).status).toBe(422)
    expect(await asked('unavailable')).toBe(1)
    await expect
      .poll(async () => (await exchange(`${fixture.stack.external}/x`)).status, { timeout: 10_000, interval: 250 })
      .toBe(200)
  })

  test('is looked at under shadow too, and nothing is changed', async () => {
    fixture.ledger.troubles.stamps.push({ kind: 'status', status: 500 })
    await fixture.stack.kill()
    const shadow = await fixture.stack.restart({ SIGNET_MODE: 'shadow' })
    await shadow.ready()
    fixture.stack = shadow
    const { body } = foreign('{"from":"shadow"}')
    answerWith(body)
    expect((await exchange(`${shadow.external}/x`)).body).toEqual(body)
    expect(await asked('unavailable')).toBe(1)
    await shadow.kill()
    fixture.stack = await shadow.restart({})
    await fixture.stack.ready()
  })
})

describe('lineage that the service declares', () => {
  const asset = `urn:db:customers@${digestOf('v1')}`
  test.each([
    {
      name: 'everything',
      headers: {
        'Signet-Lineage-Source-Assets': `${asset},  https://x.example/y@${digestOf('z')}`,
        'Signet-Lineage-Transformations': 'join, mask',
        'Signet-Lineage-Model-Version': 'm 1.2',
        'Signet-Lineage-Input-Hash': digestOf('in'),
      },
      want: {
        source_assets: [asset, `https://x.example/y@${digestOf('z')}`],
        transformations: ['join', 'mask'],
        model_version: 'm 1.2',
        input_hash: digestOf('in'),
      },
    },
    {
      name: 'values that do not fit are left out',
      headers: { 'Signet-Lineage-Source-Assets': `mutable:thing, ${asset}`, 'Signet-Lineage-Input-Hash': 'sha256:AB' },
      want: { source_assets: [asset] },
      wantIgnored: ['signet-lineage-source-assets', 'signet-lineage-input-hash'],
    },
    { name: 'unknown Signet headers', headers: { 'Signet-Anything': 'x' }, want: { source_assets: [] } },
  ])('$name', async ({ headers, want, wantIgnored }) => {
    const { answer, stamp } = await own('/lineage', headers)
    expect(stamp.data_lineage).toMatchObject(want)
    if (wantIgnored !== undefined) expect(stamp.data_lineage).not.toHaveProperty('input_hash')
    expect(Object.keys(answer.headers).filter((name) => name.startsWith('signet-'))).toEqual([])
    const [event] = await fixture.events(stamp.data_lineage.request_id)
    expect(event?.context?.['ignored_headers']).toEqual(wantIgnored)
  })

  test('the stamp is never older than what it derives from', async () => {
    const future = new Date(Date.now() + 60_000).toISOString()
    const first = await own('/future', { 'Signet-Lineage-Timestamp-Utc': future })
    expect(first.stamp.timestamp_utc).toBe(future)
    answerWith(first.answer.body)
    const answer = await exchange(`${fixture.stack.external}/again`)
    const second = verifyAnswer(
      fixture.stack,
      answer,
      subjectOf(fixture.stack, { target: '/again', mediaType: 'application/json' }),
    )
    expect(second.stamp.timestamp_utc >= future).toBe(true)
    const past = await own('/past', { 'Signet-Lineage-Timestamp-Utc': '2020-01-01T00:00:00.000Z' })
    expect(Date.parse(past.stamp.timestamp_utc)).toBeGreaterThan(Date.now() - 60_000)
    const wrong = await own('/wrong', { 'Signet-Lineage-Timestamp-Utc': '2020-13-45T00:00:00.000Z' })
    expect(Date.parse(wrong.stamp.timestamp_utc)).toBeGreaterThan(Date.now() - 60_000)
  })

  test('a Compliance-Stamp header of the service never leaves', async () => {
    const { answer } = await own('/h', { 'Compliance-Stamp': `sha256:${'0'.repeat(64)}`, Link: '</up>; rel="next"' })
    expect(answer.headers['compliance-stamp']).not.toContain('0'.repeat(64))
    expect(answer.headers['link']).toMatch(/^<\/up>; rel="next", <\/\.well-known/)
  })
})

describe('with the rule in shadow', () => {
  test.each(FORGERIES)('a forgery is stripped, and counted: $name', async ({ body, wantStripped }) => {
    await fixture.stack.setPolicyData({ version: 1, modes: { rules: { 'forged-stamp': { mode: 'shadow' } } } })
    answerWith(body)
    const answer = await until('shadow', async () => {
      const found = await exchange(`${fixture.stack.external}/forged`)
      return found.status === 200 && found
    })
    const verified = verifyAnswer(
      fixture.stack,
      answer,
      subjectOf(fixture.stack, { target: '/forged', mediaType: 'application/json' }),
    )
    expect(verified.payload.toString()).toBe(wantStripped)
    expect(verified.stamp.data_lineage.source_assets).toEqual([])
    expect(await fixture.stack.sample('signet_forged_stamps_total{tenant="acme"}')).toBeGreaterThan(0)
    const [event] = await fixture.events(verified.stamp.data_lineage.request_id)
    expect(event?.context?.['shadow_violations']).toEqual(['forged-stamp'])
  })
})
