import { setImmediate as turnOver } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { Turn, type TurnStep } from './turn.ts'

function steps(group: (work: () => void) => void) {
  const turn = new Turn(group)
  const ran: string[] = []
  const step = (name: string, also: () => void = () => undefined): TurnStep => ({
    decide() {
      ran.push(`decide ${name}`)
      also()
    },
    finish: (failure) => ran.push(`finish ${name}${failure instanceof Error ? `: ${failure.message}` : ''}`),
  })
  return { turn, ran, step }
}

it('decides in order at the end of the turn, writes, then finishes; what steps add runs in the next turn', async () => {
  const { turn, ran, step } = steps((work) => {
    work()
    ran.push('written')
  })
  turn.add(step('a', () => turn.add(step('c'))))
  turn.add(step('b'))
  expect(ran).toEqual([])
  await turnOver()
  expect(ran).toEqual(['decide a', 'decide b', 'written', 'finish a', 'finish b'])
  await turnOver()
  expect(ran.slice(5)).toEqual(['decide c', 'written', 'finish c'])
})

it('tells every step when the events of the turn could not be written', async () => {
  const { turn, ran, step } = steps((work) => {
    work()
    throw new Error('full')
  })
  turn.add(step('a'))
  turn.add(step('b'))
  await turnOver()
  expect(ran).toEqual(['decide a', 'decide b', 'finish a: full', 'finish b: full'])
})
