import { Agent, request } from 'undici'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ledgerAuthority } from '#sdk/stamp/authority.ts'
import { lineageHeaders, type Lineage } from '#sdk/lineage/declare.ts'
import { verifyInterceptor } from '#sdk/stamp/interceptor.ts'
import { stampOf, verifiedFetch } from '#sdk/stamp/verified-fetch.ts'
import { PASS_RULE, refusingRule, startProxyFixture, type ProxyFixture } from '#test/support/proxy-fixture.ts'

let fixture: ProxyFixture
const agent = new Agent()
beforeAll(async () => {
  fixture = await startProxyFixture({
    rules: [PASS_RULE, refusingRule('no-secrets', 'startswith(input.request.path, "/secret")')],
  })
  fixture.ledger.stampKeys = fixture.stack.keyring
  fixture.upstream.answer = ({ url }, response) => {
    if (url.startsWith('/large')) response.writeHead(200, { 'content-type': 'application/json' }).end(LARGE)
    else if (url.startsWith('/a.csv')) response.writeHead(200, { 'content-type': 'text/csv' }).end('a,b\n1,2\n')
    else
      response.writeHead(200, { 'content-type': 'application/json', ...lineageHeaders(LINEAGE) }).end('{"total":12.50}')
  }
})
afterAll(async () => {
  await agent.close()
  await fixture.stop()
})

/** Past what a proxy holds: its stamp is made at the end, and the answer points to it. */
const LARGE = JSON.stringify({ rows: 'x'.repeat(2_000_000) })
const LINEAGE: Lineage = {
  sourceAssets: [`urn:acme:ledger@sha256:${'ab'.repeat(32)}`],
  transformations: ['sum', 'round to cents'],
  modelVersion: 'score-7',
}
const trust = () => ({
  authority: ledgerAuthority({ url: fixture.ledger.url, token: () => fixture.ledger.token }),
  tenant: fixture.stack.tenant,
  channel: 'external' as const,
  producerId: fixture.stack.producerId,
})

test.each([
  { target: '/reports?year=2026', want: /^\{"total":12\.50,"_compliance":\{/ },
  { target: '/a.csv', want: /^a,b\n1,2\n$/ },
  { target: '/large', want: /^\{"rows":"x{2000000}"\}$/ },
])('what a real proxy answers to $target is verified by the word of the ledger', async ({ target, want }) => {
  const answer = await verifiedFetch(trust())(fixture.stack.external + target)
  expect(await answer.text()).toMatch(want)
  expect(stampOf(answer)?.stamp.subject).toMatchObject({ tenant: fixture.stack.tenant, channel: 'external' })
  const dispatcher = agent.compose(verifyInterceptor(trust()))
  expect(await (await request(fixture.stack.external + target, { dispatcher })).body.text()).toMatch(want)
})

test.each([
  { name: 'the other channel', url: () => `${fixture.stack.internal}/reports`, want: 'STAMP_SUBJECT_MISMATCH' },
  { name: 'a refusal of the proxy', url: () => `${fixture.stack.external}/secret`, want: 'STAMP_MISSING' },
  { name: 'the service without its proxy', url: () => `${fixture.upstream.url}/reports`, want: 'STAMP_MISSING' },
])('$name is refused with $want', async ({ url, want }) => {
  await expect(verifiedFetch(trust())(url())).rejects.toMatchObject({ code: want })
  const dispatcher = agent.compose(verifyInterceptor(trust()))
  await expect(request(url(), { dispatcher })).rejects.toMatchObject({ code: want })
})

test('lineage that the application declares is in the stamp', async () => {
  const answer = await verifiedFetch(trust())(`${fixture.stack.external}/reports`)
  expect(stampOf(answer)?.stamp.data_lineage).toMatchObject({
    source_assets: LINEAGE.sourceAssets,
    transformations: LINEAGE.transformations,
    model_version: LINEAGE.modelVersion,
  })
  expect([...answer.headers.keys()].filter((name) => name.startsWith('signet-'))).toEqual([])
})

test('where the ledger has no such key, nothing is handed on', async () => {
  fixture.ledger.stampKeys = { stampKey: () => undefined }
  await expect(verifiedFetch(trust())(`${fixture.stack.external}/reports`)).rejects.toMatchObject({
    code: 'STAMP_KEY_UNKNOWN',
  })
  fixture.ledger.stampKeys = fixture.stack.keyring
})
