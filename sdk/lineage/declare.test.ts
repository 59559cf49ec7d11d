import fastify from 'fastify'
import { describe, expect, test } from 'vitest'
import { lineageHeaders, type Lineage } from './declare.ts'
import { signetLineage } from './fastify-plugin.ts'

const DIGEST = `sha256:${'ab'.repeat(32)}`
const ALL: Lineage = {
  sourceAssets: [`urn:acme:ledger@${DIGEST}`, `https://x/y@${DIGEST}`],
  transformations: ['sum', 'round to cents'],
  modelVersion: 'score 7',
  inputHash: DIGEST,
  timestampUtc: '2026-11-23T09:30:00.123Z',
  classification: 'restricted',
  artifactVersion: '2026-q3',
}

describe('lineageHeaders', () => {
  test('has a header for each member', () => {
    expect(lineageHeaders(ALL)).toEqual({
      'signet-lineage-source-assets': `urn:acme:ledger@${DIGEST}, https://x/y@${DIGEST}`,
      'signet-lineage-transformations': 'sum, round to cents',
      'signet-lineage-model-version': 'score 7',
      'signet-lineage-input-hash': DIGEST,
      'signet-lineage-timestamp-utc': '2026-11-23T09:30:00.123Z',
      'signet-data-classification': 'restricted',
      'signet-artifact-version': '2026-q3',
    })
    expect(lineageHeaders({ sourceAssets: [] })).toEqual({})
  })

  test.each<{ lineage: Record<string, unknown>; want: RegExp }>([
    { lineage: { sourceAssets: ['urn:acme:ledger'] }, want: /sourceAssets.*@sha256/ },
    { lineage: { sourceAssets: [`urn:a,b@${DIGEST}`] }, want: /sourceAssets/ },
    { lineage: { transformations: ['a,b'] }, want: /transformations/ },
    { lineage: { transformations: Array(129).fill('x') }, want: /128/ },
    { lineage: { modelVersion: 'x\r\nset-cookie: a=b' }, want: /modelVersion/ },
    { lineage: { modelVersion: ' x' }, want: /modelVersion/ },
    { lineage: { inputHash: DIGEST.toUpperCase() }, want: /inputHash/ },
    { lineage: { timestampUtc: '2026-02-30T00:00:00.000Z' }, want: /timestampUtc/ },
    { lineage: { classification: 'secret' }, want: /public, internal/ },
    { lineage: { producer: 'x' }, want: /producer/ },
  ])('refuses $lineage', ({ lineage, want }) => {
    expect(() => lineageHeaders(lineage as Lineage)).toThrow(want)
  })
})

describe('the fastify plugin', () => {
  test('declares defaults and what a route says, errors too, and gives the trace', async () => {
    const app = fastify()
    await app.register(signetLineage, { defaults: { modelVersion: 'm1', classification: 'internal' } })
    app.get('/a', async (request, reply) => {
      reply.lineage({ modelVersion: 'm2', transformations: ['sum'] })
      return request.signetTrace
    })
    app.get('/bad', async (_request, reply) => reply.lineage({ inputHash: 'x' }).send({}))
    const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
    const answer = await app.inject({ url: '/a', headers: { traceparent, 'x-request-id': 'r1' } })
    expect(answer.headers).toMatchObject({
      'signet-lineage-model-version': 'm2',
      'signet-lineage-transformations': 'sum',
      'signet-data-classification': 'internal',
    })
    expect(answer.json()).toMatchObject({ traceId: '4bf92f3577b34da6a3ce929d0e0e4736', requestId: 'r1' })
    const failed = await app.inject('/bad')
    expect(failed.statusCode).toBe(500)
    expect(failed.headers['signet-lineage-model-version']).toBe('m1')
    expect((await app.inject('/none')).headers['signet-data-classification']).toBe('internal')
    await app.close()
  })

  test('does not start with bad defaults', async () => {
    const app = fastify()
    await expect(app.register(signetLineage, { defaults: { inputHash: 'x' } })).rejects.toThrow(/inputHash/)
  })
})
