import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compileTemplates } from '#core/policy/templates.ts'
import { pathReadings } from '../http/request-target.ts'
import { compileRoutes } from './routes.ts'

const TEMPLATES = [
  '/',
  '/customers',
  '/customers/{id}',
  '/Customers/{id}/cards',
  '/reports/**',
  '/**',
  '/a/{b}/**',
  '/{x}',
]
const table = compileTemplates([...TEMPLATES, '/reports/**'])

describe('compileTemplates', () => {
  it.each([
    ['/', ['/', '/**']],
    ['/customers', ['/**', '/customers', '/{x}']],
    ['/customers/7', ['/**', '/customers/{id}']],
    ['/CUSTOMERS/7/Cards', ['/**', '/Customers/{id}/cards']],
    ['/reports', ['/**', '/reports/**', '/{x}']],
    ['/reports/2026/q1', ['/**', '/reports/**']],
    ['/a/1', ['/**', '/a/{b}/**']],
    ['/a/1/2/3', ['/**', '/a/{b}/**']],
    // Readings that some servers have of these.
    ['/x/../customers', ['/**', '/customers', '/{x}']],
    ['/%63ustomers', ['/**', '/customers', '/{x}']],
    ['//customers;v=1', ['/**', '/customers', '/{x}']],
    ['/customers%2f7', ['/**', '/customers/{id}', '/{x}']],
  ])('%s', (path, want) => {
    expect(table.match(pathReadings(path))).toEqual(want)
  })

  it('gives nothing where there is nothing', () => {
    expect(compileTemplates([]).match(pathReadings('/x'))).toEqual([])
    expect(compileTemplates(['/y']).match(pathReadings('/x'))).toEqual([])
  })

  it('agrees with how routes are matched', () => {
    const part = fc.constantFrom('a', 'b', '{x}', 'A')
    const template = fc
      .tuple(fc.array(part, { maxLength: 4 }), fc.boolean())
      .map(([parts, open]) => `/${[...parts, ...(open ? ['**'] : [])].join('/')}`)
    const path = fc
      .array(fc.constantFrom('a', 'b', 'c', '..', '%61', 'a;x'), { maxLength: 5 })
      .map((p) => `/${p.join('/')}`)
    fc.assert(
      fc.property(fc.array(template, { maxLength: 8 }), path, (templates, tried) => {
        const want = [...new Set(templates)].filter(
          (each) => compileRoutes([{ template: each }]).match('GET', tried) !== null,
        )
        expect(compileTemplates(templates).match(pathReadings(tried))).toEqual(want.sort())
      }),
    )
  })
})
