import { expect, it } from 'vitest'
import type { NamespaceMap } from '#core/identity/namespace-map.ts'
import type { PolicyDataSpec } from '#core/rule/policy-data.ts'
import { createPolicyDataIndex, keepPolicyData, namespacePolicy, type PolicyDataView } from './policy-data.ts'

const approval = (id: string) => ({
  id,
  resource: '/reports/{id}',
  version: '1',
  channel: 'external' as const,
  approved_by: 'bob',
  expires_at: '2099-01-01T00:00:00Z',
})
const view = (name: string, tenant: string, ids: string[]): PolicyDataView => ({
  metadata: { name, namespace: 'signet-system', resourceVersion: '1' },
  spec: { tenant, approvals: ids.map(approval) },
})
const ids = (data: unknown): string[] => ((data as PolicyDataSpec | null)?.approvals ?? []).map(({ id }) => id)

it('holds what all objects of a tenant say together, in whatever order they come, until they go', () => {
  const index = createPolicyDataIndex()
  const [one, two] = [view('a', 'acme', ['1', '2']), view('b', 'acme', ['3'])]
  expect([...index.apply({ key: 'b', after: two })]).toEqual(['acme'])
  index.apply({ key: 'a', after: one })
  index.apply({ key: 'c', after: view('c', 'globex', ['4']) })
  expect(ids(index.of('acme'))).toEqual(['1', '2', '3'])
  expect(index.of('acme')).toBe(index.of('acme'))
  index.apply({ key: 'a', before: one })
  expect(ids(index.of('acme'))).toEqual(['3'])
  index.apply({ key: 'b', before: two })
  expect(index.of('acme')).toBeNull()
  expect(ids(index.of('globex'))).toEqual(['4'])
})

it('an object that changes hands is no longer its former tenant’s', () => {
  const index = createPolicyDataIndex()
  const [before, after] = [view('a', 'acme', ['1']), view('a', 'globex', ['1'])]
  index.apply({ key: 'a', after: before })
  expect([...index.apply({ key: 'a', before, after })].sort()).toEqual(['acme', 'globex'])
  expect([index.of('acme'), ids(index.of('globex'))]).toEqual([null, ['1']])
})

it('gives a namespace what the tenants have that its pods may be, each by itself', () => {
  const index = createPolicyDataIndex()
  for (const tenant of ['acme', 'globex', 'payments'])
    index.apply({ key: tenant, after: view(tenant, tenant, [tenant]) })
  const map: NamespaceMap = { version: 1, namespaces: { shared: { tenant: 'acme', tenants: ['globex', 'none'] } } }
  const tenants = (namespace: string): string[] =>
    Object.keys((namespacePolicy(map, index, namespace)['tenants'] as object | undefined) ?? {})
  expect(tenants('shared')).toEqual(['acme', 'globex'])
  expect(tenants('payments')).toEqual(['payments'])
  expect(namespacePolicy(map, index, 'empty')).toEqual({})
  // A namespace that took the name of a tenant of others.
  expect(namespacePolicy(map, index, 'acme')).toEqual({})
})

it.each([
  ['of another form', { tenant: 'acme', approvals: [{ id: 'x' }] }],
  ['with a member that nobody knows', { tenant: 'acme', approval: [] }],
  ['with an approval of anything', { tenant: 'acme', approvals: [{ ...approval('1'), version: undefined }] }],
  [
    'with a date that is none',
    { tenant: 'acme', approvals: [{ ...approval('1'), expires_at: '2099-99-99T00:00:00Z' }] },
  ],
])('leaves out what is %s', (_, spec) => {
  const stored = JSON.parse(JSON.stringify({ metadata: { name: 'x' }, spec })) as PolicyDataView
  expect(keepPolicyData(stored)).toBeNull()
})
