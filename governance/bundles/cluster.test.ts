import { expect, it } from 'vitest'
import { isPolicyData, MAX_ENTRIES } from '#core/rule/policy-data.ts'
import { policyDataObjects } from './cluster.ts'

const approvals = (count: number) =>
  Array.from({ length: count }, (_, index) => ({
    id: `rel-${index}`,
    resource: `/${'r'.repeat(2_047)}`,
    version: 'v'.repeat(512),
    channel: 'external',
    approved_by: 'b'.repeat(512),
    expires_at: '2099-01-01T00:00:00.000Z',
  }))

it('what is empty is no object', () => expect(policyDataObjects('acme', {})).toEqual([]))

it('as much as proxies take fits the objects, each well below what etcd takes', () => {
  const objects = policyDataObjects('acme', { approvals: approvals(10_000) })
  const specs = objects.map(({ spec }) => spec as { approvals: unknown[] })
  expect(specs.flatMap((spec) => spec.approvals)).toHaveLength(10_000)
  expect(specs.every((spec) => isPolicyData(spec))).toBe(true)
  expect(Math.max(...specs.map((spec) => spec.approvals.length))).toBeLessThan(MAX_ENTRIES)
  expect(Math.max(...specs.map((spec) => JSON.stringify(spec).length))).toBeLessThan(1_000_000)
})

it('an entry stays in its object whatever comes and goes, and tenants share none', () => {
  const all = approvals(300)
  const places = (tenant: string, entries: typeof all): Map<string, string> =>
    new Map(
      policyDataObjects(tenant, { approvals: entries }).flatMap(({ name, spec }) =>
        (spec as { approvals: { id: string }[] }).approvals.map(({ id }) => [id, name] as const),
      ),
    )
  const [before, after] = [places('acme', all), places('acme', all.slice(150))]
  for (const [id, name] of after) expect(before.get(id)).toBe(name)
  const others = new Set(places('globex', all).values())
  expect([...before.values()].some((name) => others.has(name))).toBe(false)
})
