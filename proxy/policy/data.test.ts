import { describe, expect, test } from 'vitest'
import { compileApprovals } from './approvals.ts'
import { bundledData, parsePolicyData } from './data.ts'

const APPROVAL = {
  id: 'a-1',
  resource: '/r',
  version: '3',
  channel: 'external',
  approved_by: 'ann',
  expires_at: '2027-01-01T00:00:00Z',
} as const

const BLOCK = { id: 'b-1', kind: 'agent', value: 'rogue', expires_at: '2027-01-01T00:00:00.000Z' } as const

describe('parsePolicyData', () => {
  test.each([
    { name: 'empty', value: { version: 1 } },
    {
      name: 'all members',
      value: {
        version: 1,
        routes: [{ template: '/a/{b}', classification: 'restricted' }],
        approvals: [APPROVAL],
        blocks: [BLOCK, { ...BLOCK, kind: 'route', value: '/x', method: 'GET' }],
        modes: { tenants: { t: { mode: 'shadow', percentage: 5 } }, rules: {} },
        flags: { 'audit.enhanced.v1': true },
      },
    },
  ])('takes $name', ({ value }) => {
    expect(parsePolicyData(JSON.stringify(value))).toEqual(value)
  })

  test.each([
    { name: 'not JSON', text: '{', want: /not JSON/ },
    { name: 'an unknown member', text: '{"version":1,"route":[]}', want: /«\/route»: there is no such member/ },
    { name: 'another version', text: '{"version":2}', want: /\/version/ },
    {
      name: 'a classification that is none',
      text: '{"version":1,"routes":[{"template":"/a","classification":"secret"}]}',
      want: /\/routes\/0\/classification/,
    },
    {
      name: 'an approval of anything',
      text: JSON.stringify({ version: 1, approvals: [{ ...APPROVAL, version: undefined }] }),
      want: /version or a digest/,
    },
    {
      name: 'a percentage past 100',
      text: '{"version":1,"modes":{"rules":{"x":{"mode":"enforce","percentage":101}}}}',
      want: /percentage/,
    },
    {
      name: 'a block of what it does not know',
      text: JSON.stringify({ version: 1, blocks: [{ ...BLOCK, kind: 'address' }] }),
      want: /\/blocks\/0\/kind/,
    },
    {
      name: 'a blocked route that is none',
      text: JSON.stringify({ version: 1, blocks: [{ ...BLOCK, kind: 'route' }] }),
      want: /\/blocks\/0\/value/,
    },
    {
      name: 'a block whose end is no date',
      text: JSON.stringify({ version: 1, blocks: [{ ...BLOCK, expires_at: '2027-13-41T00:00:00Z' }] }),
      want: /\/blocks\/0\/expires_at/,
    },
    {
      name: 'a date that is none',
      text: JSON.stringify({ version: 1, approvals: [{ ...APPROVAL, expires_at: '2027-13-41T00:00:00Z' }] }),
      want: /expires_at/,
    },
  ])('refuses $name', ({ text, want }) => {
    expect(() => parsePolicyData(text)).toThrow(
      expect.objectContaining({ code: 'POLICY_DATA_INVALID', message: expect.stringMatching(want) as string }),
    )
  })
})

describe('compileApprovals', () => {
  const table = compileApprovals([
    APPROVAL,
    { ...APPROVAL, id: 'a-2', version: undefined as unknown as string, digest: `sha256:${'0'.repeat(64)}` },
  ])
  const NOW = Date.parse('2026-06-01T00:00:00Z')
  const query = { template: '/r', channel: 'external', version: '3', digest: null, nowMs: NOW } as const

  test.each([
    { name: 'version', change: {}, want: ['a-1'] },
    { name: 'another version', change: { version: '4' }, want: [] },
    { name: 'no version', change: { version: undefined }, want: [] },
    { name: 'another channel', change: { channel: 'internal' as const }, want: [] },
    { name: 'another resource', change: { template: '/s' }, want: [] },
    { name: 'digest', change: { version: undefined, digest: `sha256:${'0'.repeat(64)}` }, want: ['a-2'] },
    { name: 'expired', change: { nowMs: Date.parse(APPROVAL.expires_at) }, want: [] },
  ])('$name', ({ change, want }) => {
    expect(table.match({ ...query, ...change }).map(({ id }) => id)).toEqual(want)
  })

  test('knows when the set changes', () => {
    const end = Date.parse(APPROVAL.expires_at)
    expect(table.nextExpiryMs(NOW)).toBe(end)
    expect(table.nextExpiryMs(end)).toBe(Infinity)
    expect(table.inForce(NOW)).not.toBe(table.inForce(end))
  })
})

describe('bundledData', () => {
  const other = { ...APPROVAL, id: 'a-2' }
  test.each([
    { name: 'none', policy: {}, want: [] },
    { name: 'those of a bundle that is one tenant’s', policy: { approvals: [APPROVAL] }, want: ['a-1'] },
    {
      name: 'its own of a bundle that is a namespace’s',
      policy: { tenants: { acme: { approvals: [APPROVAL] }, globex: { approvals: [other] } } },
      want: ['a-1'],
    },
    { name: 'none where it is not named', policy: { tenants: { globex: { approvals: [other] } } }, want: [] },
    {
      name: 'those of both',
      policy: { approvals: [other], tenants: { acme: { approvals: [APPROVAL], blocks: [BLOCK] } } },
      want: ['a-2', 'a-1'],
    },
    { name: 'none of what everything has', policy: { tenants: {} }, tenant: 'constructor', want: [] },
  ])('takes $name', ({ policy, tenant = 'acme', want }) => {
    expect(bundledData(policy, tenant).approvals.map(({ id }) => id)).toEqual(want)
  })

  test('gives the blocks as well', () => {
    expect(bundledData({ blocks: [BLOCK] }, 'acme').blocks).toEqual([BLOCK])
    expect(bundledData({ tenants: { acme: { blocks: [BLOCK] } } }, 'acme')).toEqual({ approvals: [], blocks: [BLOCK] })
  })

  test('refuses what is not of the form', () => {
    expect(() => bundledData({ tenants: { acme: { approvals: [{ id: 'x' }] } } }, 'acme')).toThrow(/\/approvals\/0/)
  })
})
