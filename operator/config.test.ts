import { describe, expect, it } from 'vitest'
import { readOperatorConfig } from './config.ts'

const LEAST = { SIGNET_OPA: '/usr/bin/opa' }

describe('the operator’s configuration', () => {
  it('needs little', () => {
    expect(readOperatorConfig(LEAST)).toMatchObject({
      SIGNET_CERTIFICATES: 'own',
      SIGNET_LEASE_MS: 15_000,
      tlsFiles: null,
      webhooksListen: { host: '127.0.0.1', port: 9443 },
    })
  })

  const refused = [
    { name: 'without OPA', env: { SIGNET_OPA: '' }, wantMessage: 'SIGNET_OPA is not set' },
    {
      name: 'files without their paths',
      env: { SIGNET_CERTIFICATES: 'files', SIGNET_TLS_KEY_FILE: '/k' },
      wantMessage:
        'SIGNET_TLS_CERT_FILE is not set; SIGNET_CERTIFICATES=files needs it\nSIGNET_TRUST_CA_FILE is not set',
    },
    { name: 'a namespace that is none', env: { SIGNET_NAMESPACE: 'No_Name' }, wantMessage: 'the name of a namespace' },
    { name: 'a lease that is too short', env: { SIGNET_LEASE_MS: '100' }, wantMessage: 'from 3000 to 300000' },
    { name: 'an address without a port', env: { SIGNET_BUNDLES_LISTEN: 'localhost' }, wantMessage: 'HOST:PORT' },
  ]
  it.each(refused)('$name is refused in words', ({ env, wantMessage }) => {
    expect(() => readOperatorConfig({ ...LEAST, ...env })).toThrow(wantMessage)
  })
})
