import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { SignetError } from '#core/error/signet-error.ts'
import { apiPath, apiStatus, createKubernetesClient, retryAfterMs, type KubernetesClient } from './client.ts'

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

type Handler = (request: IncomingMessage & { body: string }, response: ServerResponse) => void

async function bench(
  handler: Handler,
  token: () => string | null = () => 'token-1',
): Promise<{ client: KubernetesClient; url: string }> {
  const server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (chunk: string) => (body += chunk))
    request.on('end', () => handler(Object.assign(request, { body }), response))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const client = createKubernetesClient({ server: url, ca: () => undefined, token }, { userAgent: 'signet-test' })
  closing.push(async () => {
    await client.close()
    server.closeAllConnections()
    server.close()
  })
  return { client, url }
}

async function failureOf(promise: Promise<unknown>): Promise<SignetError> {
  const error: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  )
  if (!(error instanceof SignetError)) throw new Error(`no SignetError: ${String(error)}`)
  return error
}

describe('a request', () => {
  it('says who asks, what for, and what is sent', async () => {
    const seen: unknown[] = []
    const { client } = await bench((request, response) => {
      const { method, url, headers, body } = request
      seen.push({
        method,
        url,
        authorization: headers.authorization,
        type: headers['content-type'],
        accept: headers.accept,
        body,
      })
      response.end('{"kind":"Thing"}')
    })
    const answer = await client.request({
      method: 'PATCH',
      path: apiPath('apis/signet.dev/v1alpha1', 'namespaces', 'a/b', 'things', 'x y'),
      query: { limit: 5, continue: undefined, watch: false },
      body: { a: 1 },
      contentType: 'application/merge-patch+json',
    })
    expect(answer).toEqual({ kind: 'Thing' })
    expect(seen).toEqual([
      {
        method: 'PATCH',
        url: '/apis/signet.dev/v1alpha1/namespaces/a%2Fb/things/x%20y?limit=5&watch=false',
        authorization: 'Bearer token-1',
        type: 'application/merge-patch+json',
        accept: 'application/json',
        body: '{"a":1}',
      },
    ])
  })

  it('with a token that has just been replaced is tried once more with the new one', async () => {
    const tokens = ['old', 'new']
    const seen: string[] = []
    const { client } = await bench(
      ({ headers }, response) => {
        seen.push(headers.authorization ?? '')
        response.statusCode = headers.authorization === 'Bearer new' ? 200 : 401
        response.end('{}')
      },
      () => tokens.shift() ?? 'new',
    )
    await client.request({ path: '/x' })
    expect(seen).toEqual(['Bearer old', 'Bearer new'])
  })

  const failures = [
    { status: 401, wantCode: 'KUBERNETES_REFUSED' },
    { status: 403, wantCode: 'KUBERNETES_REFUSED' },
    { status: 404, wantCode: 'KUBERNETES_REFUSED' },
    { status: 409, wantCode: 'KUBERNETES_REFUSED' },
    { status: 429, wantCode: 'KUBERNETES_UNAVAILABLE' },
    { status: 500, wantCode: 'KUBERNETES_UNAVAILABLE' },
    { status: 503, wantCode: 'KUBERNETES_UNAVAILABLE' },
  ]
  it.each(failures)('that is answered with $status: $wantCode', async ({ status, wantCode }) => {
    const { client } = await bench((_request, response) => {
      response.writeHead(status, { 'retry-after': '3' })
      response.end(JSON.stringify({ kind: 'Status', reason: 'Because', message: 'it is so' }))
    })
    const error = await failureOf(client.request({ path: '/x' }))
    expect(error.code).toBe(wantCode)
    expect(error.message).toContain('it is so')
    expect(error.message).not.toContain('token-1')
    expect(apiStatus(error)).toBe(status)
    expect(retryAfterMs(error)).toBe(3_000)
  })

  it('that nobody answers in time is unavailable', async () => {
    const { client } = await bench(() => {})
    const error = await failureOf(client.request({ path: '/x', timeoutMs: 100 }))
    expect(error.code).toBe('KUBERNETES_UNAVAILABLE')
    expect(apiStatus(error)).toBeNull()
  })

  it('to a server that is not there, that breaks off or that talks nonsense is unavailable', async () => {
    const { client, url } = await bench(({ url: path }, response) => {
      if (path === '/breaks') response.writeHead(200, { 'content-length': '100' }).write('{')
      if (path === '/breaks') setTimeout(() => response.destroy(), 20)
      else response.end('nonsense')
    })
    for (const path of ['/breaks', '/nonsense'])
      expect((await failureOf(client.request({ path }))).code).toBe('KUBERNETES_UNAVAILABLE')
    const port = Number(new URL(url).port) === 1 ? 2 : 1
    const nowhere = createKubernetesClient(
      { server: `http://127.0.0.1:${port}`, ca: () => undefined, token: () => null },
      { userAgent: 'x' },
    )
    closing.push(() => nowhere.close())
    expect((await failureOf(nowhere.request({ path: '/x' }))).code).toBe('KUBERNETES_UNAVAILABLE')
  })

  it('that its caller gives up ends at once, as what it is', async () => {
    const { client } = await bench(() => {})
    const controller = new AbortController()
    const asked = client.request({ path: '/x', signal: controller.signal })
    controller.abort()
    await expect(asked).rejects.toThrow(/abort/i)
  })
})

describe('a stream', () => {
  it('comes as it is sent, outlives the time-out of requests, and ends by its silence', async () => {
    const { client } = await bench((_request, response) => {
      response.write('one\n')
      setTimeout(() => response.write('two\n'), 150)
    })
    const body = await client.stream({ path: '/x', timeoutMs: 100, bodyTimeoutMs: 1_000 })
    const chunks: string[] = []
    const began = performance.now()
    await expect(
      (async () => {
        for await (const chunk of body as AsyncIterable<Buffer>) chunks.push(chunk.toString())
      })(),
    ).rejects.toThrow()
    expect(chunks).toEqual(['one\n', 'two\n'])
    expect(performance.now() - began).toBeGreaterThan(900)
  })

  it('ends when its caller says so', async () => {
    const { client } = await bench((_request, response) => void response.write('one\n'))
    const controller = new AbortController()
    const body = await client.stream({ path: '/x', bodyTimeoutMs: 60_000, signal: controller.signal })
    setTimeout(() => controller.abort(), 20)
    await expect(
      (async () => {
        for await (const _ of body as AsyncIterable<Buffer>);
      })(),
    ).rejects.toThrow(/abort/i)
  })
})
