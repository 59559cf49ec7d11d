import { setImmediate as turnOver } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { Turn } from './turn.ts'

it('runs steps in order at the end of the turn, and what they add in the next', async () => {
  const turn = new Turn()
  const ran: string[] = []
  turn.add(() => {
    ran.push('a')
    turn.add(() => ran.push('c'))
  })
  turn.add(() => ran.push('b'))
  expect(ran).toEqual([])
  await turnOver()
  expect(ran).toEqual(['a', 'b'])
  await turnOver()
  expect(ran).toEqual(['a', 'b', 'c'])
})
