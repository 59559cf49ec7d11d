import { describe, expect, it } from 'vitest'
import { SHIPPED_ROLES } from '../access/shipped-roles.ts'
import type { AccessFacts } from '../store/facts.ts'
import { CHECK_NAMES } from './check-names.ts'
import { CHECKS, type Facts } from './checks.ts'

const admin: AccessFacts['users'][number] = {
  active: true,
  mfa: true,
  password: 'strong',
  idleDays: 0,
  permissions: [{ action: '*', resource: '*', extent: 'all' }],
}
const viewer = { ...admin, permissions: [] }
const GOOD: Facts = {
  access: {
    tables: [{ name: 'users', forced: true }],
    roles: SHIPPED_ROLES.map(({ name, permissions }) => ({ name, permissions })),
    bindings: 1,
    users: [admin],
    tokens: { active: 1, longestDays: 366 },
    actions: { total: 7, oldestOpenMs: 1_000 },
  },
  chain: { ok: true, from: 1, to: 9, fault: null },
  ledgerUrl: 'https://ledger:8090',
}
const withAccess = (change: Partial<AccessFacts>): Facts => ({ ...GOOD, access: { ...GOOD.access, ...change } })

it.each(CHECK_NAMES)('%s is met where all is well', (name) => {
  expect(CHECKS[name](GOOD).result).toBe('met')
})

describe('not met, and says why', () => {
  it.each<{ name: (typeof CHECK_NAMES)[number]; facts: Facts; want: string }>([
    {
      name: 'roles-in-force',
      facts: withAccess({ tables: [{ name: 'users', forced: false }] }),
      want: 'not in force on users',
    },
    { name: 'roles-in-force', facts: withAccess({ roles: [] }), want: 'Admin' },
    {
      name: 'roles-in-force',
      facts: withAccess({
        roles: GOOD.access.roles.map((role) =>
          role.name === 'Viewer' ? { ...role, permissions: admin.permissions } : role,
        ),
      }),
      want: 'release says: Viewer',
    },
    { name: 'accounts-in-use', facts: withAccess({ users: [{ ...viewer, idleDays: 91 }] }), want: '1 active users' },
    { name: 'administrators-few', facts: withAccess({ users: [admin, admin, admin, admin] }), want: '4 of 4' },
    {
      name: 'actions-recorded',
      facts: withAccess({ actions: { total: 1, oldestOpenMs: 600_000 } }),
      want: '10 minutes',
    },
    { name: 'ledger-verifies', facts: { ...GOOD, chain: { ok: false, from: 1, to: 9, fault: 'edit' } }, want: 'edit' },
    { name: 'ledger-over-tls', facts: { ...GOOD, ledgerUrl: 'http://ledger:8090' }, want: 'without TLS' },
    { name: 'sign-ins-guarded', facts: withAccess({ users: [{ ...viewer, password: 'weak' }] }), want: '1 active' },
    { name: 'mfa-in-use', facts: withAccess({ users: [{ ...viewer, mfa: false }] }), want: '1 active' },
    { name: 'tokens-expire', facts: withAccess({ tokens: { active: 1, longestDays: 400 } }), want: '400 days' },
  ])('$name: $want', ({ name, facts, want }) => {
    expect(CHECKS[name](facts)).toEqual({ result: 'not_met', detail: expect.stringContaining(want) })
  })
})

it.each([
  {
    name: 'a disabled user counts for nothing',
    users: [admin, { ...viewer, active: false, idleDays: 400, mfa: false, password: 'weak' as const }],
  },
  {
    name: 'one without a password needs no second factor here',
    users: [admin, { ...viewer, mfa: false, password: 'none' as const }],
  },
])('$name', ({ users }) => {
  for (const check of CHECK_NAMES) expect([check, CHECKS[check](withAccess({ users })).result]).toEqual([check, 'met'])
})

it('a ledger that cannot be asked is unknown, not good and not bad', () => {
  expect(CHECKS['ledger-verifies']({ ...GOOD, chain: null }).result).toBe('unknown')
})
