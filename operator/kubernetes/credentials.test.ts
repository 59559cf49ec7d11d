import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { readCredentials } from './credentials.ts'

function folder(files: Record<string, string>): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'signet-credentials-'))
  for (const [name, text] of Object.entries(files)) writeFileSync(path.join(dir, name), text)
  return dir
}

function kubeconfig(user: object, cluster: object = {}): string {
  const dir = folder({ 'ca.crt': 'CA FILE', token: 'token-1\n' })
  const file = path.join(dir, 'config')
  const config = {
    'current-context': 'here',
    contexts: [{ name: 'here', context: { cluster: 'c', user: 'u', namespace: 'mine' } }],
    clusters: [{ name: 'c', cluster: { server: 'https://example:6443/prefix/', ...cluster } }],
    users: [{ name: 'u', user }],
  }
  writeFileSync(file, stringify(config))
  return file
}

describe('credentials', () => {
  it('of a pod: token and authority are read anew, the namespace is known', () => {
    const dir = folder({ token: 'one\n', 'ca.crt': 'CA 1', namespace: 'signet-system' })
    const credentials = readCredentials({ serviceHost: 'fd00::1', servicePort: '443', serviceAccountDir: dir })
    expect(credentials.server).toBe('https://[fd00::1]:443')
    expect(credentials.namespace).toBe('signet-system')
    expect([credentials.token(), credentials.ca()]).toEqual(['one', 'CA 1'])
    writeFileSync(path.join(dir, 'token'), 'two')
    writeFileSync(path.join(dir, 'ca.crt'), 'CA 2')
    expect([credentials.token(), credentials.ca()]).toEqual(['two', 'CA 2'])
  })

  it('of a kubeconfig: data, files beside it, client certificates', () => {
    const base64 = (text: string): string => Buffer.from(text).toString('base64')
    const data = readCredentials({
      kubeconfig: kubeconfig(
        { 'client-certificate-data': base64('CERT'), 'client-key-data': base64('KEY') },
        { 'certificate-authority-data': base64('CA'), 'tls-server-name': 'name' },
      ),
    })
    expect(data).toMatchObject({
      server: 'https://example:6443/prefix',
      serverName: 'name',
      namespace: 'mine',
      clientPair: { cert: 'CERT', key: 'KEY' },
    })
    expect([data.ca(), data.token()]).toEqual(['CA', null])
    const files = readCredentials({
      kubeconfig: kubeconfig({ tokenFile: 'token' }, { 'certificate-authority': 'ca.crt' }),
    })
    expect([files.ca(), files.token()]).toEqual(['CA FILE', 'token-1'])
  })

  const refused = [
    { name: 'no pod, no kubeconfig', options: {}, wantMessage: 'KUBECONFIG is not set' },
    { name: 'a file that is not there', options: { kubeconfig: '/nowhere' }, wantMessage: '/nowhere cannot be read' },
    {
      name: 'an exec plugin',
      options: { kubeconfig: kubeconfig({ exec: {} }) },
      wantMessage: 'exec plugins are not supported',
    },
    {
      name: 'no context',
      options: { kubeconfig: path.join(folder({ config: '{}' }), 'config') },
      wantMessage: 'no current context',
    },
    {
      name: 'no YAML',
      options: { kubeconfig: path.join(folder({ config: 'a: [' }), 'config') },
      wantMessage: 'is not YAML',
    },
  ]
  it.each(refused)('$name is said in words', ({ options, wantMessage }) => {
    expect(() => readCredentials(options)).toThrow(wantMessage)
  })
})
