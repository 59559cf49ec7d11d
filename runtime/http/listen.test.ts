import { createServer } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { listen, parseListenAddress } from './listen.ts'

const servers = new Set<ReturnType<typeof createServer>>()
const newServer = (): ReturnType<typeof createServer> => {
  const server = createServer()
  servers.add(server)
  return server
}
afterEach(() => {
  for (const server of servers) server.close()
  servers.clear()
})
const NAMES = { what: 'proxy, external channel', variable: 'SIGNET_EXTERNAL_LISTEN' }

describe('listen', () => {
  it('says the port it got, and which port is taken', async () => {
    const { port } = await listen(newServer(), { host: '127.0.0.1', port: 0 }, NAMES)
    expect(port).toBeGreaterThan(0)
    await expect(listen(newServer(), { host: '127.0.0.1', port }, NAMES)).rejects.toMatchObject({
      code: 'PORT_IN_USE',
      message: `port ${port} (proxy, external channel) is already in use; stop what listens there or set SIGNET_EXTERNAL_LISTEN`,
    })
  })

  it('says when the machine has no such address', async () => {
    await expect(listen(newServer(), { host: '192.0.2.1', port: 0 }, NAMES)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message:
        'cannot listen on 192.0.2.1:0 (proxy, external channel): this machine has no such address; set SIGNET_EXTERNAL_LISTEN',
    })
  })
})

describe('parseListenAddress', () => {
  it.each([
    ['127.0.0.1:8080', { host: '127.0.0.1', port: 8080 }],
    ['localhost:0', { host: 'localhost', port: 0 }],
    ['[::1]:443', { host: '::1', port: 443 }],
  ])('%s', (value, want) => {
    expect(parseListenAddress('SIGNET_X', value)).toEqual(want)
  })

  it.each(['8080', ':8080', 'localhost', 'localhost:', 'localhost:65536', '::1:80', 'a b:80', 'localhost:8a'])(
    'refuses %s',
    (value) => {
      expect(() => parseListenAddress('SIGNET_X', value)).toThrow(`SIGNET_X is "${value}"`)
    },
  )
})
