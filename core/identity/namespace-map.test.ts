import { describe, expect, it } from 'vitest'
import { checkNamespaceMap, namespaceSettings, workloadIdentity, type NamespaceMap } from './namespace-map.ts'

const MAP: NamespaceMap = {
  version: 1,
  default: { region: 'eu', passthroughPorts: [9090] },
  namespaces: {
    reports: { tenant: 'acme', tenants: ['acme-test'], region: 'us', channel: 'internal' },
    payments: { tenant: 'globex' },
    umbrella: { tenant: 'umbrella' },
    plain: {},
  },
}

describe('namespaceSettings', () => {
  it.each([
    {
      namespace: 'reports',
      want: {
        tenant: 'acme',
        tenants: ['acme', 'acme-test'],
        region: 'us',
        channel: 'internal',
        passthroughPorts: [9090],
      },
    },
    {
      namespace: 'unlisted',
      want: { tenant: 'unlisted', tenants: ['unlisted'], region: 'eu', channel: null, passthroughPorts: [9090] },
    },
    { namespace: 'plain', want: { tenant: 'plain' } },
    { namespace: 'umbrella', want: { tenant: 'umbrella' } },
    { namespace: 'constructor', want: { tenant: 'constructor' } },
  ])('$namespace', ({ namespace, want }) => expect(namespaceSettings(MAP, namespace)).toMatchObject(want))

  it.each(['globex', 'acme', 'acme-test'])('a new namespace does not become the tenant %s', (namespace) => {
    expect(() => namespaceSettings(MAP, namespace)).toThrow(expect.objectContaining({ code: 'FORBIDDEN' }))
  })

  it('takes the tenant of the default for all that are not listed', () => {
    const map: NamespaceMap = { version: 1, default: { tenant: 'acme' }, namespaces: {} }
    expect(namespaceSettings(map, 'acme')).toMatchObject({ tenant: 'acme' })
    expect(namespaceSettings(map, 'anything')).toMatchObject({ tenant: 'acme' })
  })
})

describe('workloadIdentity', () => {
  const workload = { namespace: 'reports', serviceAccount: 'api' }
  it.each([
    { claims: {}, want: { tenant: 'acme', producerId: 'reports/api' } },
    { claims: { tenant: 'acme-test' }, want: { tenant: 'acme-test', producerId: 'reports/api' } },
    { claims: { producerId: 'reports/quarterly' }, want: { tenant: 'acme', producerId: 'reports/quarterly' } },
    { claims: { tenant: 'globex' }, want: null },
    { claims: { tenant: '' }, want: null },
    { claims: { producerId: 'payments/api' }, want: null },
    { claims: { producerId: 'reports' }, want: null },
    { claims: { producerId: 'reports/' }, want: null },
    { claims: { producerId: 'reports2/api' }, want: null },
    { claims: { producerId: 'reports/a b' }, want: null },
    { claims: { producerId: 'reports/\u202e' }, want: null },
  ])('$claims', ({ claims, want }) => {
    if (want === null) {
      expect(() => workloadIdentity(MAP, workload, claims)).toThrow(expect.objectContaining({ code: 'FORBIDDEN' }))
    } else expect(workloadIdentity(MAP, workload, claims)).toMatchObject(want)
  })
})

describe('checkNamespaceMap', () => {
  it.each([
    { what: 'no object', value: [] },
    { what: 'another version', value: { version: 2, namespaces: {} } },
    { what: 'no namespaces', value: { version: 1 } },
    { what: 'an unknown member', value: { version: 1, namespaces: { a: { tennant: 'b' } } } },
    { what: 'a name that is no namespace', value: { version: 1, namespaces: { A_b: { tenant: 'b' } } } },
    { what: 'an empty tenant', value: { version: 1, namespaces: { a: { tenant: '' } } } },
    { what: 'an unknown channel', value: { version: 1, namespaces: { a: { tenant: 'b', channel: 'public' } } } },
    { what: 'a port that is none', value: { version: 1, namespaces: { a: { tenant: 'b', passthroughPorts: [0] } } } },
  ])('refuses $what', ({ value }) => {
    expect(() => checkNamespaceMap(value, 'map.yaml')).toThrow(/^map\.yaml is not a namespace map/)
  })
  it('takes its own', () => expect(checkNamespaceMap(MAP, 'map.yaml')).toBe(MAP))
})
