import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sha256Hex } from './canonical.ts'
import { bundlesOfDirectory, createBundleServer } from './serve.ts'

const BYTES = Buffer.from('a bundle')
const ETAG = `"${sha256Hex(BYTES)}"`

let directory: string
let server: Server
let base: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'signet-serve-test-'))
  await writeFile(join(directory, 'root.tar.gz'), BYTES)
  await writeFile(join(directory, 'secret'), 'no')
  const fromDirectory = bundlesOfDirectory(directory)
  server = createBundleServer({
    getBundle: (name) => (name === 'broken' ? Promise.reject(new Error('disk')) : fromDirectory(name)),
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(async () => {
  server.closeAllConnections()
  server.close()
  await rm(directory, { recursive: true, force: true })
})

describe('createBundleServer', () => {
  it.each([
    ['a bundle', 'GET', '/bundles/root.tar.gz', {}, 200, 'a bundle'],
    ['its head', 'HEAD', '/bundles/root.tar.gz', {}, 200, ''],
    ['a bundle that the client has', 'GET', '/bundles/root.tar.gz', { 'If-None-Match': ETAG }, 304, ''],
    ['the same, weak and in a list', 'GET', '/bundles/root.tar.gz', { 'If-None-Match': `"x", W/${ETAG}` }, 304, ''],
    [
      'one that the client has in another version',
      'GET',
      '/bundles/root.tar.gz',
      { 'If-None-Match': '"x"' },
      200,
      'a bundle',
    ],
    ['one that is not there', 'GET', '/bundles/other.tar.gz', {}, 404, ''],
    ['a way out of the folder', 'GET', '/bundles/..%2fsecret', {}, 404, ''],
    ['another path', 'GET', '/', {}, 404, ''],
    ['a method that changes', 'POST', '/bundles/root.tar.gz', {}, 405, ''],
    ['a bundle that cannot be read', 'GET', '/bundles/broken.tar.gz', {}, 503, ''],
  ] as [string, string, string, Record<string, string>, number, string][])(
    'answers %s',
    async (_, method, path, headers, wantStatus, wantBody) => {
      const response = await fetch(base + path, { method, headers })
      expect([response.status, await response.text()]).toEqual([wantStatus, wantBody])
      if (wantStatus === 200 || wantStatus === 304) expect(response.headers.get('etag')).toBe(ETAG)
      if (wantStatus === 200) expect(response.headers.get('content-length')).toBe(String(BYTES.length))
    },
  )
})
