import { describe, expect, it } from 'vitest'
import { parseLabels } from './labels.ts'

describe('parseLabels', () => {
  it.each([
    ['nothing', '', {}],
    ['labels', 'app="shop"\napp.kubernetes.io/name="shop-1"\n', { app: 'shop', 'app.kubernetes.io/name': 'shop-1' }],
    ['an empty value', 'a=""', { a: '' }],
    ['escapes', 'a="x\\"y\\\\z"', { a: 'x"y\\z' }],
  ])('reads %s', (_, text, want) => {
    expect(parseLabels(text)).toEqual(want)
  })

  it('takes a label for a label', () => {
    const labels = parseLabels('__proto__="x"\nconstructor="y"'.replace('__proto__', 'a__proto__'))
    expect(Object.entries(labels)).toEqual([
      ['a__proto__', 'x'],
      ['constructor', 'y'],
    ])
  })

  it.each([
    ['no quotes', 'a=b', /line 1/],
    ['no value', 'a="b"\nc', /line 2/],
    ['two on a line', 'a="b" c="d"', /line 1/],
    ['too much', 'x'.repeat(300_000), /256 KiB/],
  ])('refuses %s', (_, text, want) => {
    expect(() => parseLabels(text)).toThrow(want)
  })
})
