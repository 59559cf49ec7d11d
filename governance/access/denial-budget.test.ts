import { expect, it } from 'vitest'
import { DenialBudget, MAX_DENIALS } from './denial-budget.ts'
import type { Principal } from './principal.ts'

const of = (id: string, tokenId = 't'): Principal => ({
  tenant: 'acme',
  kind: 'user',
  id,
  name: id,
  tokenId,
  scopes: null,
})

it('holds up whoever was denied too often, with any token, for a minute; and nobody else', () => {
  let now = 1_000
  const budget = new DenialBudget(() => now)
  for (let count = 0; count < MAX_DENIALS - 1; count++) budget.count(of('a'))
  expect(() => budget.require(of('a'))).not.toThrow()
  budget.count(of('a'))
  expect(() => budget.require(of('a', 'another'))).toThrow('a was denied 120 times')
  expect(() => budget.require(of('b'))).not.toThrow()
  now += 60_000
  expect(() => budget.require(of('a'))).not.toThrow()
  budget.count(of('a'))
  expect(() => budget.require(of('a'))).not.toThrow()
})
