import { describe, expect, it } from 'vitest'
import { ACTIONS, extentOf, firstNotHeld, RESOURCES, SCOPE_PATTERN, type Permission } from './permission.ts'
import { SHIPPED_ROLES } from './shipped-roles.ts'

const all = (action: Permission['action'], resource: Permission['resource']): Permission => ({
  action,
  resource,
  extent: 'all',
})
const own = (action: Permission['action'], resource: Permission['resource']): Permission => ({
  action,
  resource,
  extent: 'own',
})

describe('extentOf', () => {
  it.each([
    { name: 'nothing', held: [], want: null },
    { name: 'the permission', held: [all('read', 'rules')], want: 'all' },
    { name: 'another action', held: [all('write', 'rules')], want: null },
    { name: 'another resource', held: [all('read', 'scans')], want: null },
    { name: 'every action', held: [all('*', 'rules')], want: 'all' },
    { name: 'every resource', held: [all('read', '*')], want: 'all' },
    { name: 'one’s own', held: [own('read', 'rules')], want: 'own' },
    { name: 'one’s own and all', held: [own('read', 'rules'), all('*', '*')], want: 'all' },
  ])('$name: $want', ({ held, want }) => {
    expect(extentOf(held, null, 'read', 'rules')).toBe(want)
  })
  it.each([
    { scopes: [], want: null },
    { scopes: ['read:rules'], want: 'all' },
    { scopes: ['*:rules'], want: 'all' },
    { scopes: ['read:*'], want: 'all' },
    { scopes: ['write:rules', 'read:scans'], want: null },
  ])('a token that carries $scopes: $want', ({ scopes, want }) => {
    expect(extentOf([all('*', '*')], scopes, 'read', 'rules')).toBe(want)
  })
})

describe('firstNotHeld', () => {
  it.each([
    { name: 'what is held', held: [all('read', 'rules')], wanted: [all('read', 'rules')], want: undefined },
    {
      name: 'what everything holds',
      held: [all('*', '*')],
      wanted: [all('*', '*'), own('read', 'tasks')],
      want: undefined,
    },
    {
      name: 'every action, held one by one',
      held: ACTIONS.map((action) => all(action, 'rules')),
      wanted: [all('*', 'rules')],
      want: undefined,
    },
    {
      name: 'every resource, held for one',
      held: [all('read', 'rules')],
      wanted: [all('read', '*')],
      want: all('read', '*'),
    },
    {
      name: 'all, where one’s own is held',
      held: [own('read', 'tasks')],
      wanted: [all('read', 'tasks')],
      want: all('read', 'tasks'),
    },
    {
      name: 'one’s own, where all is held',
      held: [all('read', 'tasks')],
      wanted: [own('read', 'tasks')],
      want: undefined,
    },
  ])('$name', ({ held, wanted, want }) => {
    expect(firstNotHeld(held, null, wanted)).toEqual(want)
  })
  it('counts what the token carries, not what its owner has', () => {
    expect(firstNotHeld([all('*', '*')], ['read:rules'], [all('read', 'rules')])).toBeUndefined()
    expect(firstNotHeld([all('*', '*')], ['read:rules'], [all('write', 'rules')])).toEqual(all('write', 'rules'))
  })
})

describe('the shipped roles', () => {
  const can = (role: string): string[] => {
    const { permissions } = SHIPPED_ROLES.find(({ name }) => name === role)!
    return ACTIONS.flatMap((action) =>
      RESOURCES.flatMap((resource) => {
        const extent = extentOf(permissions, null, action, resource)
        return extent === null ? [] : [`${action}:${resource}:${extent}`]
      }),
    )
  }
  it('are six', () => {
    expect(SHIPPED_ROLES.map(({ name }) => name)).toEqual([
      'Admin',
      'ProjectManager',
      'Agent',
      'Viewer',
      'ComplianceLead',
      'Auditor',
    ])
  })
  it('Admin can do everything', () => {
    expect(can('Admin')).toHaveLength(ACTIONS.length * RESOURCES.length)
  })
  it.each(['Viewer', 'Auditor'])('%s changes nothing', (role) => {
    expect(can(role).filter((name) => !/^(read|export):/.test(name))).toEqual([])
  })
  it('an Agent has nothing but its own, and may report what it did', () => {
    expect(can('Agent').filter((name) => !name.endsWith(':own'))).toEqual(['write:events:all'])
  })
  it.each(['ProjectManager', 'Agent', 'Viewer'])('%s sees no violations: members report, owners read', (role) => {
    expect(can(role).filter((name) => /^(read|execute|override):(events|violations)/.test(name))).toEqual([])
  })
  it.each(['ProjectManager', 'Agent', 'Viewer', 'ComplianceLead', 'Auditor'])('%s gives nobody access', (role) => {
    expect(
      can(role).filter((name) => /^(write|assign|delete|execute):(users|roles|tokens|service-accounts)/.test(name)),
    ).toEqual([])
  })
  it('no permission is named twice in a role: they are a key of the table', () => {
    for (const { permissions } of SHIPPED_ROLES) {
      const names = permissions.map(({ action, resource }) => `${action}:${resource}`)
      expect(new Set(names).size).toBe(names.length)
    }
  })
})

it.each([
  ['read:rules', true],
  ['*:*', true],
  ['read:service-accounts', true],
  ['read', false],
  ['fly:rules', false],
  ['read:moon', false],
  ['read:rules\n', false],
])('scope %j: %s', (scope, want) => {
  expect(new RegExp(SCOPE_PATTERN).test(scope)).toBe(want)
})
