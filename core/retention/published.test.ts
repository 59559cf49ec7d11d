import { describe, expect, it } from 'vitest'
import { parsePublishedPolicies, publishPolicy } from './published.ts'

const policy = publishPolicy(
  { name: 'a', uid: 'u', generation: 2 },
  {
    selector: { tenants: ['acme'], dataDomains: ['payments'], frameworks: ['SOX'] },
    hot: '90d',
    archive: '7y',
    legalHold: { active: true, reason: 'case 7' },
    erasure: { allowed: true, within: '30d' },
  },
)
const text = (changes: object = {}, version: unknown = 1): string =>
  JSON.stringify({ version, policies: [{ ...policy, ...changes }] })

describe('policies.json', () => {
  it('is read as it is written', () => {
    expect(parsePublishedPolicies(text(), 'f').policies).toEqual([policy])
  })

  it.each([
    { name: 'another version', given: text({}, 2), want: /version/ },
    { name: 'no JSON', given: '{', want: /not strict JSON/ },
    { name: 'a member twice', given: '{"version":1,"version":1,"policies":[]}', want: /not strict JSON/ },
    { name: 'a member that nobody knows', given: text({ keep: 1 }), want: /policies\/0/ },
    { name: 'days that are none', given: text({ hot_days: 0 }), want: /hot_days/ },
    { name: 'days past all bounds', given: text({ archive_days: 1e12 }), want: /archive_days/ },
    { name: 'an archive that ends before', given: text({ archive_days: 10 }), want: /policy a is shorter/ },
    { name: 'half a surrogate pair', given: text({ name: '\ud800' }), want: /Unicode|strict/ },
    { name: 'U+0000', given: text({ uid: 'a\0' }), want: /U\+0000/ },
    {
      name: 'an empty selector member, which selects nothing',
      given: text({ selector: { tenants: [] } }),
      want: /tenants/,
    },
  ])('$name is refused', ({ given, want }) => {
    expect(() => parsePublishedPolicies(given, 'the file')).toThrow(want)
    expect(() => parsePublishedPolicies(given, 'the file')).toThrow(/^the file/)
  })
})
