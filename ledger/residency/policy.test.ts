import { describe, expect, it } from 'vitest'
import type { AuditEvent } from '#core/audit/event.ts'
import { NO_RESIDENCY, residencyPolicy } from './policy.ts'

const FILE = {
  version: 1,
  here: 'eu-1',
  stores: [
    { name: 'eu-1', regions: ['eu', 'eu-west'] },
    { name: 'us-1', regions: ['us'] },
  ],
  rules: [
    { tenant: 'acme', users: ['user:*@us.example', 'carl'], region: 'us' },
    { tenant: 'acme', event_region: 'us-*', region: 'us' },
    { tenant: 'acme', region: 'eu-west' },
    { tenant: 'globex', region: 'us' },
    { tenant: '*', users: ['everywhere'], region: 'us' },
  ],
} as const
const event = (members: Partial<AuditEvent>): AuditEvent =>
  ({ actor: 'service:x', ...members }) as unknown as AuditEvent

describe('residency', () => {
  it.each([
    { name: 'a user elsewhere', tenant: 'acme', event: { actor: 'user:bob@us.example' }, want: 'us' },
    { name: 'by name', tenant: 'acme', event: { actor: 'carl' }, want: 'us' },
    { name: 'as the resource', tenant: 'acme', event: { resource_id: 'carl' }, want: 'us' },
    { name: 'as the data subject', tenant: 'acme', event: { context: { data_subject: 'carl' } }, want: 'us' },
    { name: 'by where it happened', tenant: 'acme', event: { region: 'us-east' }, want: 'us' },
    { name: 'others of the tenant', tenant: 'acme', event: { actor: 'user:ann@eu.example', region: 'eu' }, want: null },
    { name: 'a tenant elsewhere', tenant: 'globex', event: {}, want: 'us' },
    { name: 'a user of any tenant', tenant: 'initech', event: { actor: 'everywhere' }, want: 'us' },
    { name: 'nobody that a rule knows', tenant: 'initech', event: { actor: 'carl' }, want: null },
    { name: 'a beginning that is all there is', tenant: 'acme', event: { actor: 'user:@us.exampl' }, want: null },
  ])('$name', ({ tenant, event: members, want }) => {
    const violation = residencyPolicy(FILE, 'the file').violation(tenant, event(members))
    if (want === null) expect(violation).toBeNull()
    else expect(violation).toContain(`region ${want}, in the store us-1; this is the store eu-1`)
    // Nobody is named to whoever reads a refusal.
    expect(violation ?? '').not.toMatch(/bob|carl/)
  })

  it('can keep out what no rule names', () => {
    const strict = residencyPolicy({ ...FILE, otherwise: 'us' }, 'the file')
    expect(strict.violation('initech', event({}))).toContain('region us')
    expect(strict.violation('acme', event({}))).toBeNull()
  })

  it('tells a tenant its own rules', () => {
    expect(residencyPolicy(FILE, 'the file').residencyOf('globex')).toEqual({
      enforced: true,
      store: { name: 'eu-1', regions: ['eu', 'eu-west'] },
      rules: [
        { users: null, event_region: null, region: 'us', store: 'us-1', here: false },
        { users: ['everywhere'], event_region: null, region: 'us', store: 'us-1', here: false },
      ],
      otherwise: { region: 'any', store: null, here: true },
    })
    expect(NO_RESIDENCY.residencyOf('acme')).toMatchObject({ enforced: false, store: null })
    expect(NO_RESIDENCY.violation('acme', event({}))).toBeNull()
  })

  it.each([
    { change: { here: 'asia' }, want: /\/here/ },
    { change: { rules: [{ tenant: 'a', region: 'asia' }] }, want: /\/rules\/0\/region/ },
    { change: { otherwise: 'asia' }, want: /\/otherwise/ },
    { change: { stores: [...FILE.stores, { name: 'x', regions: ['eu'] }] }, want: /region twice/ },
    { change: { stores: [...FILE.stores, { name: 'eu-1', regions: ['x'] }] }, want: /name twice/ },
    { change: { stores: [] }, want: /\/stores/ },
    { change: { rules: [{ tenant: 'a', region: 'eu', users: ['a*b*c'] }] }, want: /\/rules\/0\/users/ },
    { change: { version: 2 }, want: /\/version/ },
    { change: { more: 1 }, want: /the file/ },
  ])('refuses a file with $change', ({ change, want }) => {
    expect(() => residencyPolicy({ ...FILE, ...change }, 'the file')).toThrow(want)
    expect(() => residencyPolicy({ ...FILE, ...change }, 'the file')).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID' }),
    )
  })
})
