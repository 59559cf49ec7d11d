import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { openObjectStore, type ObjectStore } from './object-store.ts'

/** What a store that is broken, or not well-meaning, may answer; one that is well is in test/ledger/archive*.test.ts. */
type Answer = (request: IncomingMessage, response: ServerResponse, seen: readonly IncomingMessage[]) => void
const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

async function against(
  answer: Answer,
  timeoutMs = 5_000,
): Promise<{ store: ObjectStore; open: () => Promise<number> }> {
  const seen: IncomingMessage[] = []
  const server = createServer((request, response) => {
    seen.push(request)
    request.resume()
    request.on('end', () => answer(request, response, seen))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const store = openObjectStore({
    bucket: 'archive',
    region: 'us-east-1',
    endpoint: `http://127.0.0.1:${port}`,
    prefix: 'p/',
    credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
    timeoutMs,
  })
  closing.push(async () => {
    store.close()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  const open = (): Promise<number> =>
    new Promise((resolve, reject) =>
      server.getConnections((error, count) => (error === null ? resolve(count) : reject(error))),
    )
  return { store, open }
}

const code = (wanted: string, message: RegExp): unknown =>
  expect.objectContaining({ code: wanted, message: expect.stringMatching(message) })

const xml = (response: ServerResponse, status: number, body: string): void =>
  void response.writeHead(status, { 'content-type': 'application/xml' }).end(`<?xml version="1.0"?>${body}`)
const listing = (more: string, versions = ''): string =>
  `<ListVersionsResult><Name>archive</Name>${more}${versions}</ListVersionsResult>`
const version = (key: string, id: string): string =>
  `<Version><Key>p/${key}</Key><VersionId>${id}</VersionId><LastModified>2026-01-01T00:00:00Z</LastModified></Version>`

describe('a body', () => {
  test('that is larger than it may be is not read, and its connection is closed: more of them than there are connections', async () => {
    const { store, open } = await against((_request, response) => {
      response.writeHead(200, { 'content-length': String(1_000_000_000) })
      response.write(Buffer.alloc(100_000))
    })
    for (let round = 0; round < 8; round++)
      await Promise.all(
        Array.from({ length: 10 }, () =>
          expect(store.get('x', { maxBytes: 10 })).rejects.toEqual(code('ARCHIVE_INVALID', /may have 10/)),
        ),
      )
    await expect.poll(open, { timeout: 5_000 }).toBe(0)
  })
  test('that says no length is read as far as it may be', async () => {
    const { store } = await against((_request, response) => {
      response.writeHead(200)
      const more = (): void => {
        while (!response.destroyed && response.write(Buffer.alloc(10_000)));
        if (!response.destroyed) response.once('drain', more)
      }
      more()
    })
    await expect(store.get('x', { maxBytes: 100_000 })).rejects.toEqual(code('ARCHIVE_INVALID', /may have 100000/))
  })
  test('that does not come on is given up', async () => {
    const { store } = await against((_request, response) => {
      response.writeHead(200, { 'content-length': '10' })
      response.write('12345')
    }, 300)
    await expect(store.get('x', { maxBytes: 10 })).rejects.toEqual(code('ARCHIVE_UNAVAILABLE', /within 300 ms/))
  })
})

test('a store that does not answer is given up, whatever it is asked', async () => {
  const { store } = await against(() => undefined, 300)
  const calls: Promise<unknown>[] = [
    store.requireLock(),
    store.put('x', Buffer.from('1'), new Date('2030-01-01')),
    store.versions('x'),
    store.get('x', { maxBytes: 1 }),
    store.lockedUntil('x'),
    store.extendLock('x', 'v', new Date('2030-01-01')),
    store.list(''),
    store.listAfter('', '', 1),
  ]
  for (const call of calls) await expect(call).rejects.toEqual(code('ARCHIVE_UNAVAILABLE', /within 300 ms/))
})

describe('a list', () => {
  test.each([
    {
      what: 'that ends in the middle and does not say where',
      more: '<IsTruncated>true</IsTruncated>',
      want: /go(es)? on/,
    },
    {
      what: 'that comes again and again',
      more: '<IsTruncated>true</IsTruncated><NextKeyMarker>p/x</NextKeyMarker><NextVersionIdMarker>v</NextVersionIdMarker>',
      want: /again and again/,
    },
  ])('$what is no list', async ({ more, want }) => {
    const { store } = await against((_request, response) => xml(response, 200, listing(more)))
    await expect(store.versions('x')).rejects.toEqual(code('ARCHIVE_UNAVAILABLE', want))
    await expect(store.list('')).rejects.toEqual(code('ARCHIVE_UNAVAILABLE', want))
    await expect(store.listAfter('', '', 1)).rejects.toEqual(code('ARCHIVE_UNAVAILABLE', want))
  })
  test('of more than was asked for is not taken for all', async () => {
    const versions = Array.from({ length: 101 }, (_, index) => version(`k${String(index).padStart(3, '0')}`, 'v')).join(
      '',
    )
    const { store } = await against((_request, response) =>
      xml(response, 200, listing('<IsTruncated>false</IsTruncated>', versions)),
    )
    expect(await store.listAfter('', '', 1)).toEqual({ found: [{ key: 'k000', versionId: 'v' }], more: true })
    expect(await store.list('')).toHaveLength(101)
  })
  test('of nothing but delete markers ends', async () => {
    const { store } = await against((_request, response, seen) =>
      xml(response, 200, listing(`<IsTruncated>true</IsTruncated><NextKeyMarker>p/k${seen.length}</NextKeyMarker>`)),
    )
    await expect(store.listAfter('', '', 1)).rejects.toEqual(code('ARCHIVE_UNAVAILABLE', /delete markers/))
  })
})

describe('writing', () => {
  test('is under the condition that nothing is there; without it where the store does not know it', async () => {
    const conditions: (string | undefined)[] = []
    const { store } = await against((request, response) => {
      if (request.method !== 'PUT') return xml(response, 200, listing('<IsTruncated>false</IsTruncated>'))
      const condition = request.headers['if-none-match']
      conditions.push(condition)
      if (condition !== undefined) return xml(response, 501, '<Error><Code>NotImplemented</Code></Error>')
      response.writeHead(200, { 'x-amz-version-id': 'v1' }).end()
    })
    const until = new Date('2030-01-01')
    expect(await store.put('x', Buffer.from('1'), until)).toBe('v1')
    expect(await store.put('y', Buffer.from('1'), until)).toBe('v1')
    expect(conditions.at(0)).toBe('*')
    // Not asked again.
    expect(conditions.slice(-2)).toEqual([undefined, undefined])
  })
  test('to a store that names no version is refused: nothing could be pinned', async () => {
    const { store } = await against((_request, response) => void response.writeHead(200).end())
    await expect(store.put('x', Buffer.from('1'), new Date('2030-01-01'))).rejects.toEqual(
      code('ARCHIVE_UNAVAILABLE', /which version/),
    )
  })
})
