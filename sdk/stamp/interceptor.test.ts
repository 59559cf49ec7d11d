import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { Agent, fetch as undiciFetch, request } from 'undici'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { stampOf } from '#core/stamp/stamp.fixture.ts'
import { verifyInterceptor, type InterceptorOptions } from './interceptor.ts'
import {
  claimsOf,
  stampedObject,
  stampHeaderOf,
  startStampedServer,
  TRUST,
  type StampedServer,
} from './stamped-server.fixture.ts'
import { stampOf as stampOfAnswer, verifiedFetch } from './verified-fetch.ts'

let server: StampedServer
const agent = new Agent()
beforeAll(async () => {
  server = await startStampedServer()
})
beforeEach(() => void server.seen.splice(0))
afterAll(async () => {
  await agent.close()
  await server.close()
})

/** Each way to ask; gives status and body, or rejects as the application sees it. */
type Ask = (
  path: string,
  options?: { method?: string; verify?: Partial<InterceptorOptions>; headers?: Record<string, string> },
) => Promise<{ status: number; body: string; headers: Record<string, unknown> }>
const WAYS: [string, Ask][] = [
  [
    'undici request',
    async (path, { method = 'GET', verify = {}, headers = {} } = {}) => {
      const dispatcher = agent.compose(verifyInterceptor({ ...TRUST, ...verify }))
      const answer = await request(server.url + path, { dispatcher, method, headers })
      return { status: answer.statusCode, body: await answer.body.text(), headers: answer.headers }
    },
  ],
  [
    'undici fetch through the interceptor',
    async (path, { method = 'GET', verify = {}, headers = {} } = {}) => {
      const dispatcher = agent.compose(verifyInterceptor({ ...TRUST, ...verify }))
      try {
        const answer = await undiciFetch(server.url + path, { dispatcher, method, headers, redirect: 'manual' })
        return { status: answer.status, body: await answer.text(), headers: Object.fromEntries(answer.headers) }
      } catch (error) {
        throw (error as Error).cause
      }
    },
  ],
  [
    'verifiedFetch',
    async (path, { method = 'GET', verify = {}, headers = {} } = {}) => {
      const answer = await verifiedFetch({ ...TRUST, ...verify })(server.url + path, { method, headers })
      return { status: answer.status, body: await answer.text(), headers: Object.fromEntries(answer.headers) }
    },
  ],
]

const JSON_TYPE = { 'content-type': 'application/json' }

describe.each(WAYS)('%s', (_way, ask) => {
  test('hands on an object with its stamp inside', async () => {
    server.answer = (req, res) => res.writeHead(200, JSON_TYPE).end(stampedObject(req))
    const { status, body } = await ask('/reports?year=2026')
    expect(status).toBe(200)
    expect(JSON.parse(body)).toMatchObject({ a: 1, _compliance: { approval_status: 'approved' } })
  })

  test.each([{ status: 404 }, { status: 302 }, { status: 503 }])('hands on a stamped $status', async ({ status }) => {
    server.answer = (req, res) =>
      res.writeHead(status, { ...JSON_TYPE, location: '/else' }).end(stampedObject(req, '{}', { status }))
    expect((await ask('/x')).status).toBe(status)
  })

  test('hands on a file whose stamp is in the header, and the empty answer to HEAD', async () => {
    server.answer = (req, res) => {
      const body = req.method === 'HEAD' ? '' : 'a,b\n'
      const head = {
        'content-type': 'text/csv',
        'compliance-stamp': stampHeaderOf(req, body, { media_type: 'text/csv' }),
      }
      res.writeHead(200, head).end(body)
    }
    expect((await ask('/a.csv')).body).toBe('a,b\n')
    expect((await ask('/a.csv', { method: 'HEAD' })).body).toBe('')
  })

  test.each([
    { coding: 'gzip', code: gzipSync },
    { coding: 'deflate', code: deflateSync },
    { coding: 'br', code: brotliCompressSync },
    { coding: 'zstd', code: zstdCompressSync },
  ])('verifies what $coding decodes to', async ({ coding, code }) => {
    server.answer = (req, res) =>
      res.writeHead(200, { ...JSON_TYPE, 'content-encoding': coding }).end(code(stampedObject(req)))
    const { body, headers } = await ask('/z')
    expect(JSON.parse(body)).toMatchObject({ a: 1 })
    expect(headers['content-encoding']).toBeUndefined()
  })

  test('fetches a stamp that the answer points to, with the credentials of the request, once it is there', async () => {
    let asked = 0
    server.answer = (req, res) => {
      if (req.url?.startsWith('/.well-known/') === true) {
        asked += 1
        const { jcs } = stampOf('streamed', {
          claims: { ...claimsOf(req), subject: { ...claimsOf(req).subject, ...SUBJECT } },
        })
        if (asked === 1) res.writeHead(404).end()
        else res.end(jcs)
      } else
        res
          .writeHead(200, {
            'content-type': 'text/plain',
            link: '</.well-known/signet/requests/r1>; rel="describedby"',
          })
          .end('streamed')
    }
    const SUBJECT = { ...claimsOf({ method: 'GET', url: '/s' } as never).subject, media_type: 'text/plain' }
    expect((await ask('/s', { headers: { authorization: 'Bearer of-the-caller', 'x-other': '1' } })).body).toBe(
      'streamed',
    )
    expect(asked).toBe(2)
    const pointed = server.seen.at(-1)
    expect(pointed?.headers.authorization).toBe('Bearer of-the-caller')
    expect(pointed?.headers['x-other']).toBeUndefined()
  })

  test.each<{ name: string; answer: StampedServer['answer']; verify?: Partial<InterceptorOptions>; want: string }>([
    { name: 'no stamp', answer: (_req, res) => res.writeHead(200, JSON_TYPE).end('{"a":1}'), want: 'STAMP_MISSING' },
    {
      name: 'a changed payload',
      answer: (req, res) => res.writeHead(200, JSON_TYPE).end(String(stampedObject(req)).replace('"a":1', '"a":2')),
      want: 'STAMP_PAYLOAD_MISMATCH',
    },
    {
      name: 'a changed stamp',
      answer: (req, res) =>
        res.writeHead(200, JSON_TYPE).end(String(stampedObject(req)).replace('"approved"', '"rejected"')),
      want: 'STAMP_MAC_MISMATCH',
    },
    {
      name: 'the stamp of another target',
      answer: (req, res) => res.writeHead(200, JSON_TYPE).end(stampedObject({ method: 'GET', url: '/other' } as never)),
      want: 'STAMP_SUBJECT_MISMATCH',
    },
    {
      name: 'the stamp of another status',
      answer: (req, res) => res.writeHead(200, JSON_TYPE).end(stampedObject(req, '{}', { status: 404 })),
      want: 'STAMP_SUBJECT_MISMATCH',
    },
    {
      name: 'another media type than was stamped',
      answer: (req, res) => res.writeHead(200, { 'content-type': 'text/html' }).end(stampedObject(req)),
      want: 'STAMP_SUBJECT_MISMATCH',
    },
    {
      name: 'a stamp of the internal channel',
      answer: (req, res) => res.writeHead(200, JSON_TYPE).end(stampedObject(req, '{}', { channel: 'internal' })),
      want: 'STAMP_SUBJECT_MISMATCH',
    },
    {
      name: 'a stamp of another producer than expected',
      answer: (req, res) => res.writeHead(200, JSON_TYPE).end(stampedObject(req)),
      verify: { producerId: 'billing/api' },
      want: 'STAMP_SUBJECT_MISMATCH',
    },
    {
      name: 'a stamp beside that verifies, and a forged one inside',
      answer(req, res) {
        const body = Buffer.from('{"_compliance":{"forged":true}}')
        res.writeHead(200, { ...JSON_TYPE, 'compliance-stamp': stampHeaderOf(req, body) }).end(body)
      },
      want: 'STAMP_INVALID',
    },
    {
      name: 'content past the limit',
      answer: (req, res) => res.writeHead(200, JSON_TYPE).end(stampedObject(req, `{"a":"${'x'.repeat(5_000)}"}`)),
      verify: { maxBytes: 4_096 },
      want: 'STAMP_CONTENT_TOO_LARGE',
    },
    {
      name: 'content past the limit that does not say so',
      answer(req, res) {
        res.writeHead(200, JSON_TYPE)
        res.write(stampedObject(req))
        res.end(Buffer.alloc(100_000))
      },
      verify: { maxBytes: 4_096 },
      want: 'STAMP_CONTENT_TOO_LARGE',
    },
    {
      name: 'a stamp that another origin has',
      answer: (_req, res) =>
        res
          .writeHead(200, { ...JSON_TYPE, link: '<http://127.0.0.1:9/.well-known/signet/stamps/x>; rel="describedby"' })
          .end('[1]'),
      want: 'STAMP_MISSING',
    },
  ])('refuses $name', async ({ answer, verify, want }) => {
    server.answer = answer
    await expect(ask('/reports', verify === undefined ? {} : { verify })).rejects.toMatchObject({ code: want })
  })

  test("names Signet's own refusals", async () => {
    server.answer = (_req, res) =>
      res
        .writeHead(422, { 'content-type': 'application/problem+json' })
        .end('{"code":"POLICY_DENIED","detail":"never handed on"}')
    await expect(ask('/reports')).rejects.toMatchObject({
      message: expect.stringMatching(/^(?!.*never).*POLICY_DENIED/),
      details: { status: 422, problem_code: 'POLICY_DENIED' },
    })
  })

  test('many at once over few connections each get their own', async () => {
    server.answer = (req, res) =>
      res.writeHead(200, JSON_TYPE).end(stampedObject(req, JSON.stringify({ path: req.url, pad: 'x'.repeat(70_000) })))
    const paths = Array.from({ length: 40 }, (_, at) => `/n/${at}`)
    const answers = await Promise.all(paths.map((path) => ask(path)))
    expect(answers.map(({ body }) => (JSON.parse(body) as { path: string }).path)).toEqual(paths)
  })
})

describe('the interceptor alone', () => {
  const dispatcher = agent.compose(verifyInterceptor(TRUST))

  test('expects the query that undici sends', async () => {
    server.answer = (req, res) => res.writeHead(200, JSON_TYPE).end(stampedObject(req))
    const answer = await request(`${server.url}/q`, { dispatcher, query: { a: '1 2', b: ['x', 'y'] } })
    await answer.body.dump()
    expect(server.seen.at(-1)?.url).toBe('/q?a=1%202&b=x&b=y')
  })

  test.each([
    { name: 'a zip bomb', encoding: 'gzip', body: gzipSync(Buffer.alloc(20_000_000)), want: 'STAMP_CONTENT_TOO_LARGE' },
    { name: 'an unknown coding', encoding: 'compress', body: Buffer.from('x'), want: 'STAMP_INVALID' },
    { name: 'many codings', encoding: 'gzip,gzip,gzip,gzip', body: Buffer.from('x'), want: 'STAMP_INVALID' },
    {
      name: 'a coding that ends early',
      encoding: 'gzip',
      body: gzipSync('{"a":1}').subarray(0, 20),
      want: 'STAMP_INVALID',
    },
  ])('refuses $name', async ({ encoding, body, want }) => {
    server.answer = (_req, res) => res.writeHead(200, { ...JSON_TYPE, 'content-encoding': encoding }).end(body)
    await expect(request(`${server.url}/z`, { dispatcher })).rejects.toMatchObject({ code: want })
  })

  test('hands on nothing of an answer that breaks off, and no early hints', async () => {
    server.answer = (req, res) => {
      res.writeEarlyHints({ link: '</style.css>; rel=preload' })
      res.writeHead(200, { ...JSON_TYPE, 'content-length': 5_000 })
      res.write(stampedObject(req))
      setImmediate(() => res.destroy())
    }
    const infos: unknown[] = []
    await expect(request(`${server.url}/x`, { dispatcher, onInfo: (info) => infos.push(info) })).rejects.toThrow()
    expect(infos).toEqual([])
  })

  test('refuses upgrades before they are sent', async () => {
    const upgrade = agent
      .compose(verifyInterceptor(TRUST))
      .upgrade({ path: '/', protocol: 'websocket', origin: server.url } as never)
    await expect(upgrade).rejects.toMatchObject({ code: 'STAMP_MISSING' })
    expect(server.seen).toEqual([])
  })

  test('an application that gives up while the authority is asked gets its own reason', async () => {
    server.answer = (req, res) => res.writeHead(200, JSON_TYPE).end(stampedObject(req))
    const giveUp = new AbortController()
    const authority: InterceptorOptions['authority'] = (_toJudge, signal) =>
      new Promise((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason as Error))
        giveUp.abort(new Error('no longer wanted'))
      })
    const asking = request(`${server.url}/x`, {
      dispatcher: agent.compose(verifyInterceptor({ ...TRUST, authority })),
      signal: giveUp.signal,
    })
    await expect(asking).rejects.toThrow('no longer wanted')
  })

  test('an authority that does not answer ends in time', async () => {
    server.answer = (req, res) => res.writeHead(200, JSON_TYPE).end(stampedObject(req))
    const authority: InterceptorOptions['authority'] = (_toJudge, signal) =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)))
    const impatient = agent.compose(verifyInterceptor({ ...TRUST, authority, timeoutMs: 50 }))
    await expect(request(`${server.url}/x`, { dispatcher: impatient })).rejects.toMatchObject({ name: 'TimeoutError' })
  })
})

test('verifiedFetch tells the stamp, and reads the request as fetch does', async () => {
  server.answer = (req, res) => res.writeHead(200, JSON_TYPE).end(stampedObject(req))
  const answer = await verifiedFetch(TRUST)(new Request(`${server.url}/r?x=é#part`, { method: 'POST', body: 'sent' }))
  expect(stampOfAnswer(answer)?.stamp.data_lineage.producer_id).toBe('reports/ledger-api')
  expect(answer.url).toBe(`${server.url}/r?x=%C3%A9`)
  expect(server.seen.at(-1)?.method).toBe('POST')
})
