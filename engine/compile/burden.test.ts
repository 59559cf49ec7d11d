import { expect, it } from 'vitest'
import { readOpaErrors } from './opa.ts'
import { readSet } from './readset.ts'
import type { SyntaxTree } from './syntax.ts'

const took = (work: () => void): number => {
  const began = performance.now()
  work()
  return performance.now() - began
}
const variable = (value: string) => ({ type: 'var', value, location: { row: 1, col: 1 } })

it('reads errors in which an author has put a word of megabytes', () => {
  const word = 'x'.repeat(1_000_000)
  expect(took(() => readOpaErrors(word, new Map()))).toBeLessThan(1_000)
  expect(took(() => readOpaErrors(JSON.stringify({ errors: [{ message: word }] }), new Map()))).toBeLessThan(1_000)
})

it('follows thousands of rules that call each other', () => {
  const rules = Array.from({ length: 8_000 }, (_, i) => ({
    head: { name: i === 0 ? 'decision' : `r${i}`, ref: [variable(i === 0 ? 'decision' : `r${i}`)] },
    body: [{ terms: variable(`r${i + 1}`) }],
  }))
  const tree = { package: { location: { row: 1, col: 1 }, path: [] }, rules } as unknown as SyntaxTree
  expect(took(() => readSet([{ tree, names: ['s'] }], 0))).toBeLessThan(1_000)
})
