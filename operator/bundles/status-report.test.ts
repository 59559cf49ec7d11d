import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { SignetError } from '#core/error/signet-error.ts'
import { readStatusReport } from './status-report.ts'

const WHO = { namespace: 'shop', pod: 'web-1', uid: 'u1' }
const REVISION = '1795577381-0123456789abcdef'
const read = (body: unknown) => readStatusReport(body, WHO, 5)

describe('readStatusReport', () => {
  const cases: { name: string; body: unknown; want: object }[] = [
    {
      name: 'in force',
      body: { labels: { id: 'x' }, bundles: { b: { name: 'b', active_revision: REVISION, metrics: {} } }, plugins: {} },
      want: { ...WHO, revision: REVISION, code: null, message: null, reportedMs: 5 },
    },
    {
      name: 'OPA without a code, with empty errors',
      body: { bundles: { b: { active_revision: REVISION, code: '', errors: null } } },
      want: { revision: REVISION, code: null },
    },
    {
      name: 'refused',
      body: { bundles: { b: { active_revision: REVISION, code: 'BUNDLE_STALE', message: 'a\nb\u0007\u202ec' } } },
      want: { revision: REVISION, code: 'BUNDLE_STALE', message: 'a b c' },
    },
    {
      name: 'a label that claims another pod',
      body: { labels: { pod: 'other' }, bundles: {} },
      want: { pod: 'web-1' },
    },
    { name: 'nothing in force', body: {}, want: { revision: null, code: null } },
    {
      name: 'a revision of another server',
      body: { bundles: { b: { active_revision: '<b>' } } },
      want: { revision: null },
    },
    { name: 'a code that is none', body: { bundles: { b: { code: 'a b\n' } } }, want: { code: 'unknown' } },
  ]
  it.each(cases)('$name', ({ body, want }) => {
    expect(read(body)).toMatchObject(want)
  })

  it.each([
    [null],
    [[]],
    ['x'],
    [{ bundles: [] }],
    [{ bundles: { b: 1 } }],
    [{ bundles: { b: { active_revision: 'x'.repeat(5_000) } } }],
  ])('refuses %j', (body) => {
    expect(() => read(body)).toThrow(expect.objectContaining({ code: 'REQUEST_INVALID' }) as Error)
  })

  it('gives a bounded status or a refusal for anything', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.jsonValue(),
          fc.record({ bundles: fc.dictionary(fc.string(), fc.record({ code: fc.string(), message: fc.string() })) }),
        ),
        (body) => {
          try {
            const { code, message } = read(body)
            expect((message ?? '').length).toBeLessThanOrEqual(300)
            expect(code ?? 'x').toMatch(/^[A-Za-z0-9_.-]{1,64}$/)
          } catch (error) {
            expect(error).toBeInstanceOf(SignetError)
          }
        },
      ),
    )
  })
})
