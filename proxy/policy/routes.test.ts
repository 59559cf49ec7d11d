import { describe, expect, test } from 'vitest'
import { checkTarget } from '../http/request-target.ts'
import { compileRoutes } from './routes.ts'

const TABLE = compileRoutes([
  { template: '/customers/{id}' },
  { template: '/customers/me' },
  { template: '/customers' },
  { template: '/reports/**' },
  { template: '/reports/{year}/summary' },
  { template: '/orders', methods: ['POST'] },
])

describe('compileRoutes', () => {
  test.each([
    { path: '/customers', want: '/customers' },
    { path: '/customers/', want: '/customers' },
    { path: '/customers/7', want: '/customers/{id}' },
    { path: '/customers/me', want: '/customers/me' },
    { path: '/customers/7/orders', want: null },
    { path: '/reports', want: '/reports/**' },
    { path: '/reports/2026/q1/x', want: '/reports/**' },
    { path: '/reports/2026/summary', want: '/reports/{year}/summary' },
    { path: '/elsewhere', want: null },
    // Forms that an origin may take for the same path.
    { path: '//customers//7', want: '/customers/{id}' },
    { path: '/x/../customers/7', want: '/customers/{id}' },
    { path: '/x/%2e%2e/customers/7', want: '/customers/{id}' },
    { path: '/%63ustomers/7', want: '/customers/{id}' },
    { path: '/customers;v=1/7;x=2', want: '/customers/{id}' },
    { path: '/customers%2f7', want: '/customers/{id}' },
    { path: '/customers/%zz', want: '/customers/{id}' },
    { path: '/../../customers/7', want: '/customers/{id}' },
    { path: '/CUSTOMERS/7', want: '/customers/{id}' },
    { path: '/customers./7', want: '/customers/{id}' },
    { path: '/customers%20/7', want: '/customers/{id}' },
    { path: '/%2563ustomers/7', want: '/customers/{id}' },
    // A server that decodes after routing sees the item, one that resolves first sees something else: the rule holds for both.
    { path: '/customers/..%2fopen', want: '/customers/{id}' },
    { path: '/customers/%2e%2e%2fopen', want: '/customers/{id}' },
    { path: '/x/..;/customers/7', want: '/customers/{id}' },
    { path: '/customers\\7', want: '/customers/{id}' },
  ])('$path', ({ path, want }) => {
    expect(TABLE.match('GET', path)?.template ?? null).toBe(want)
  })

  test('a route may be for some methods only; HEAD goes with GET', () => {
    expect(TABLE.match('POST', '/orders')?.template).toBe('/orders')
    expect(TABLE.match('GET', '/orders')).toBeNull()
    expect(compileRoutes([{ template: '/a', methods: ['GET'] }]).match('HEAD', '/a')?.template).toBe('/a')
  })
})

test('where readings match different routes, the strictest of each counts and no approval does', () => {
  const table = compileRoutes([
    { template: '/open/{id}', classification: 'public', regulations: ['SOX'], regions: ['eu', 'us'] },
    { template: '/secret/{id}', classification: 'restricted', regulations: ['GDPR'], regions: ['eu'] },
  ])
  expect(table.match('GET', '/open/x')).toMatchObject({ classification: 'public', ambiguous: false })
  expect(table.match('GET', '/secret;/..;/open/x')).toBeDefined()
  expect(table.match('GET', '/open/x/../../secret/7')).toMatchObject({ classification: 'restricted', ambiguous: false })
  expect(table.match('GET', '/open/..%2f..%2fsecret%2f7')).toMatchObject({
    classification: 'restricted',
    regions: ['eu'],
  })
})

test.each(['/a#b', '/a\\b', '/a b', '/a%00', '/a\u0001'])(
  'a target that no origin form has is refused: %j',
  (target) => {
    expect(() => checkTarget(target)).toThrow(expect.objectContaining({ code: 'REQUEST_INVALID' }))
  },
)
