import { mkdtemp, rename, writeFile } from 'node:fs/promises'
import { createServer, get } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { TLSSocket } from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import { issuePair } from './certificate.fixture.ts'
import { checkTlsPair, createReloadingHttpsOptions, readTlsPair, watchTlsFiles, type TlsPair } from './reloading.ts'

const stopping: AbortController[] = []
afterEach(() => {
  for (const controller of stopping.splice(0)) controller.abort()
})

async function filesOf(
  pair: TlsPair,
): Promise<{ certFile: string; keyFile: string; put(next: TlsPair): Promise<void> }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'signet-tls-test-'))
  const [certFile, keyFile] = [path.join(folder, 'tls.crt'), path.join(folder, 'tls.key')]
  const put = async (next: TlsPair): Promise<void> => {
    for (const [file, text] of [
      [certFile, next.cert],
      [keyFile, next.key],
    ] as const) {
      await writeFile(`${file}.new`, text)
      await rename(`${file}.new`, file)
    }
  }
  await put(pair)
  return { certFile, keyFile, put }
}

function signal(): AbortSignal {
  const controller = new AbortController()
  stopping.push(controller)
  return controller.signal
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    if (await condition()) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error('it did not happen')
}

describe('a TLS listener with certificates that change', () => {
  it('serves the new certificate to new connections, without a restart, while old connections go on', async () => {
    const [first, second] = [issuePair('first.example'), issuePair('second.example')]
    const files = await filesOf(first)
    const options = createReloadingHttpsOptions({ ...files, pollMs: 20, signal: signal() })
    const server = createServer(options.https, (_request, response) => response.end('ok'))
    options.follow(server)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const subject = (): Promise<string> =>
      new Promise((resolve, reject) => {
        get({ port, host: '127.0.0.1', rejectUnauthorized: false, agent: false }, (response) => {
          resolve(String((response.socket as TLSSocket).getPeerCertificate().subject.CN))
          response.resume()
        }).on('error', reject)
      })

    expect(await subject()).toBe('first.example')
    await files.put(second)
    await until(async () => (await subject()) === 'second.example')
    server.close()
  })

  it('takes a change that came between reading and following', async () => {
    const files = await filesOf(issuePair('first.example'))
    const options = createReloadingHttpsOptions({ ...files, pollMs: 20, signal: signal() })
    const second = issuePair('second.example')
    await files.put(second)
    const server = createServer(options.https)
    const taken: TlsPair[] = []
    const set = server.setSecureContext.bind(server)
    server.setSecureContext = (context) => {
      taken.push({ cert: context.cert as string, key: context.key as string })
      set(context)
    }
    options.follow(server)
    await until(() => taken.length === 1)
    expect(taken[0]).toEqual(second)
  })

  it('waits for the other half of a half-written pair and reports it once', async () => {
    const [first, second] = [issuePair('first.example'), issuePair('second.example')]
    const files = await filesOf(first)
    const changes: TlsPair[] = []
    const errors: string[] = []
    watchTlsFiles({
      ...files,
      pollMs: 10,
      signal: signal(),
      onChange: (pair) => changes.push(pair),
      onError: (error) => errors.push(error.code),
    })
    await writeFile(files.certFile, second.cert)
    await until(() => errors.length > 0)
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect({ changes, errors }).toEqual({ changes: [], errors: ['TLS_INVALID'] })

    await writeFile(files.keyFile, second.key)
    await until(() => changes.length > 0)
    expect(changes).toEqual([second])
  })

  it('stops when told to', async () => {
    const files = await filesOf(issuePair('first.example'))
    const controller = new AbortController()
    const changes: TlsPair[] = []
    watchTlsFiles({ ...files, pollMs: 10, signal: controller.signal, onChange: (pair) => changes.push(pair) })
    controller.abort()
    await files.put(issuePair('second.example'))
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(changes).toEqual([])
  })
})

describe('a pair that cannot be used is refused, without its key in the message', () => {
  const first = issuePair('first.example')
  const cases = [
    {
      name: 'the key of another',
      pair: { cert: first.cert, key: issuePair('other.example').key },
      wantMessage: 'not that of',
    },
    { name: 'no certificate', pair: { cert: 'nonsense', key: first.key }, wantMessage: 'not a PEM certificate' },
    { name: 'no key', pair: { cert: first.cert, key: first.cert }, wantMessage: 'not a PEM certificate' },
    { name: 'nothing', pair: { cert: '', key: '' }, wantMessage: 'not a PEM certificate' },
  ]
  it.each(cases)('$name', ({ pair, wantMessage }) => {
    expect(() => checkTlsPair(pair, 'here')).toThrow(wantMessage)
    try {
      checkTlsPair(pair, 'here')
    } catch (error) {
      expect(String(error)).not.toContain('PRIVATE KEY')
    }
  })

  it('a file that is not there is named', () => {
    expect(() => readTlsPair({ certFile: '/nowhere/tls.crt', keyFile: '/nowhere/tls.key' })).toThrow(
      '/nowhere/tls.crt cannot be read: ENOENT',
    )
  })
})
