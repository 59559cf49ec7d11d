import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { BlockList, type AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Resolve } from './guarded-agent.ts'
import { createWebhookSender, type WebhookSender } from './webhook.ts'

const key = Buffer.alloc(32, 5)
const nowMs = Date.UTC(2026, 0, 2)
const message = { key, id: 'msg_1', body: '{"type":"violation.contained"}' }

type Seen = { headers: IncomingMessage['headers']; url: string; body: string }
const seen: Seen[] = []
const server = createServer((incoming, answer) => {
  const chunks: Buffer[] = []
  incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
  incoming.on('end', () => {
    const url = incoming.url ?? ''
    seen.push({ headers: incoming.headers, url, body: Buffer.concat(chunks).toString('utf8') })
    respond(url, answer)
  })
})
function respond(url: string, answer: ServerResponse): void {
  if (url === '/hang') return
  if (url === '/endless') {
    answer.writeHead(200).write('x')
    return
  }
  if (url === '/cut') {
    answer.destroy()
    return
  }
  if (url === '/moved') {
    answer.writeHead(307, { location: '/200' }).end()
    return
  }
  answer.writeHead(Number(url.slice(1))).end('secret of the receiver')
}

let origin = ''
const senders: WebhookSender[] = []
function senderOf({ inside = true, resolve }: { inside?: boolean; resolve?: Resolve } = {}) {
  const allowed = new BlockList()
  if (inside) allowed.addAddress('127.0.0.1', 'ipv4')
  const sender = createWebhookSender({
    nowMs: () => nowMs,
    timeoutMs: 1_500,
    allowed,
    ...(resolve === undefined ? {} : { resolve }),
  })
  senders.push(sender)
  return sender
}

beforeAll(async () => {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
beforeEach(() => {
  seen.length = 0
})
afterAll(async () => {
  await Promise.all(senders.map((sender) => sender.close()))
  server.closeAllConnections()
  server.close()
})

describe('send', () => {
  it('sends what the receiver can verify', async () => {
    const got = await senderOf().send({ ...message, url: `${origin}/200` })

    expect(got).toEqual({ outcome: 'delivered', status: 200 })
    expect(seen).toHaveLength(1)
    const { headers, body } = seen[0]!
    const signed = `${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.${body}`
    const signature = createHmac('sha256', key).update(signed).digest('base64')
    expect(headers['webhook-signature']).toBe(`v1,${signature}`)
    expect(headers['webhook-timestamp']).toBe(String(nowMs / 1_000))
  })

  it.each([
    { url: '/204', want: { outcome: 'delivered', status: 204 } },
    { url: '/410', want: { outcome: 'dead', reason: 'it answered 410: gone' } },
    { url: '/500', want: { outcome: 'retry', reason: 'it answered 500' } },
    { url: '/404', want: { outcome: 'retry', reason: 'it answered 404' } },
    { url: '/moved', want: { outcome: 'retry', reason: 'it answered 307' } },
    { url: '/cut', want: { outcome: 'retry', reason: 'cannot be reached, or not spoken to' } },
    { url: '/hang', want: { outcome: 'retry', reason: 'no answer in time' } },
    { url: '/endless', want: { outcome: 'delivered', status: 200 } },
  ])('$url: $want.outcome, and sent once', async ({ url, want }) => {
    expect(await senderOf().send({ ...message, url: `${origin}${url}` })).toEqual(want)
    expect(seen.map((call) => call.url)).toEqual([url])
  })
})

describe('the guard', () => {
  it.each([
    { url: 'https://127.0.0.1/', wantReason: 'the URL has an address that is not public' },
    { url: 'https://2130706433/', wantReason: 'the URL has an address that is not public' },
    { url: 'https://[::1]/', wantReason: 'the URL has an address that is not public' },
    { url: 'https://[::ffff:169.254.169.254]/', wantReason: 'the URL has an address that is not public' },
    { url: 'http://8.8.8.8/', wantReason: 'the URL is not https' },
    { url: 'file:///etc/passwd', wantReason: 'the URL is not https' },
    { url: 'https://user:word@example.org/', wantReason: 'the URL has a user or a password in it' },
    { url: 'no url', wantReason: 'the URL is none' },
  ])('sends nothing to $url', async ({ url, wantReason }) => {
    const got = await senderOf({ inside: false }).send({ ...message, url })

    expect(got).toEqual({ outcome: 'dead', reason: wantReason })
  })

  it.each([
    { addresses: ['127.0.0.1'] },
    { addresses: ['169.254.169.254'] },
    { addresses: ['8.8.8.8', '10.0.0.1'] },
    { addresses: [] },
  ])('connects to no name that resolves to $addresses', async ({ addresses }) => {
    const resolve: Resolve = (_host, done) =>
      done(
        null,
        addresses.map((address) => ({ address, family: 4 })),
      )
    const got = await senderOf({ inside: false, resolve }).send({ ...message, url: 'https://hooks.example/' })

    expect(got).toEqual({ outcome: 'dead', reason: 'the name resolves to an address that is not public' })
  })

  it('asks the system for the addresses of a name', async () => {
    const got = await senderOf({ inside: false }).send({ ...message, url: 'https://localhost/' })

    expect(got).toEqual({ outcome: 'dead', reason: 'the name resolves to an address that is not public' })
  })

  it('tries a name again that does not resolve', async () => {
    const resolve: Resolve = (_host, done) => done(new Error('ENOTFOUND'))
    const got = await senderOf({ resolve }).send({ ...message, url: 'https://hooks.example/' })

    expect(got).toEqual({ outcome: 'retry', reason: 'cannot be reached, or not spoken to' })
  })
})
