import { describe, expect, it } from 'vitest'
import type { NamespaceMap } from '#core/identity/namespace-map.ts'
import type { ReviewedPod } from './service-account.ts'
import { createTokenAuthenticator } from './token.ts'
import { checkServiceAccountFile, createWorkloadAuthenticator, firstThatKnows } from './workload.ts'

const MAP: NamespaceMap = { version: 1, namespaces: { reports: { tenant: 'acme', tenants: ['acme-test'] } } }
const ACCOUNTS = checkServiceAccountFile(
  {
    version: 1,
    service_accounts: {
      'signet-system/signet-operator': { tenant: 'platform', tenants: ['acme'], scopes: ['audit:write'] },
      'signet-system/auditor': { tenant: 'acme', producer_id: 'audit/team', scopes: ['audit:read'] },
    },
  },
  'accounts.yaml',
)
const pod = (namespace: string, serviceAccount: string, bound = true): ReviewedPod => ({
  namespace,
  serviceAccount,
  pod: bound ? { name: 'p-1', uid: 'u-1' } : null,
})
const authenticatorOf = (who: ReviewedPod) =>
  createWorkloadAuthenticator({
    accounts: { authenticate: async () => who },
    namespaceMap: () => MAP,
    serviceAccounts: () => ACCOUNTS,
  })

describe('createWorkloadAuthenticator', () => {
  it.each([
    { who: pod('reports', 'api'), claims: {}, want: { tenant: 'acme', producerId: 'reports/api' } },
    {
      who: pod('reports', 'api'),
      claims: { tenant: 'acme-test', producerId: 'reports/x' },
      want: { tenant: 'acme-test', producerId: 'reports/x' },
    },
    { who: pod('reports', 'api'), claims: { producerId: 'payments/api' }, want: null },
    { who: pod('reports', 'api'), claims: { tenant: 'platform' }, want: null },
    { who: pod('reports', 'api', false), claims: {}, want: null },
    {
      who: pod('signet-system', 'signet-operator'),
      claims: {},
      want: { tenant: 'platform', producerId: 'signet-system/signet-operator', scopes: new Set(['audit:write']) },
    },
    { who: pod('signet-system', 'signet-operator'), claims: { tenant: 'acme' }, want: { tenant: 'acme' } },
    { who: pod('signet-system', 'signet-operator'), claims: { tenant: 'globex' }, want: null },
    { who: pod('signet-system', 'signet-operator'), claims: { producerId: 'reports/api' }, want: null },
    {
      who: pod('signet-system', 'auditor', false),
      claims: {},
      want: { tenant: 'acme', producerId: 'audit/team', scopes: new Set(['audit:read']) },
    },
  ])('$who.namespace/$who.serviceAccount as $claims', async ({ who, claims, want }) => {
    const answer = authenticatorOf(who).authenticate({ authorization: 'Bearer a.b.c', claims })
    if (want === null) await expect(answer).rejects.toMatchObject({ code: 'FORBIDDEN' })
    else expect(await answer).toMatchObject({ ...want, workload: who })
  })

  it('gives a pod no more than to write and to read its own stamps', async () => {
    const { scopes } = await authenticatorOf(pod('reports', 'api')).authenticate({ authorization: 'Bearer a.b.c' })
    expect([...scopes]).toEqual(['audit:write', 'stamps:read'])
  })
})

describe('firstThatKnows', () => {
  const none = createTokenAuthenticator({ version: 1, tokens: [] })
  it('asks the next where a token is not known', async () => {
    const both = firstThatKnows([none, authenticatorOf(pod('reports', 'api'))])
    expect(await both.authenticate({ authorization: 'Bearer a.b.c' })).toMatchObject({ tenant: 'acme' })
  })
  it('lets nothing but that go on', async () => {
    const refusing = authenticatorOf(pod('reports', 'api', false))
    const both = firstThatKnows([refusing, authenticatorOf(pod('reports', 'api'))])
    await expect(both.authenticate({ authorization: 'Bearer a.b.c' })).rejects.toMatchObject({ code: 'FORBIDDEN' })
    await expect(firstThatKnows([none]).authenticate({ authorization: 'Bearer a' })).rejects.toMatchObject({
      code: 'UNAUTHENTICATED',
    })
    await expect(firstThatKnows([]).authenticate({ authorization: 'Bearer a' })).rejects.toMatchObject({
      code: 'UNAUTHENTICATED',
    })
  })
})

describe('checkServiceAccountFile', () => {
  it.each([
    { version: 1 },
    { version: 1, service_accounts: { 'no-slash': { tenant: 'a', scopes: [] } } },
    { version: 1, service_accounts: { 'a/b': { tenant: 'a' } } },
    { version: 1, service_accounts: { 'a/b': { tenant: 'a', scopes: ['*'] } } },
    { version: 1, service_accounts: { 'a/b': { tenant: 'a', scopes: [], role: 'x' } } },
  ])('refuses %j', (value) => {
    expect(() => checkServiceAccountFile(value, 'f')).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }))
  })
})
