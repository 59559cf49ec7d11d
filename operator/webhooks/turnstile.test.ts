import { describe, expect, it } from 'vitest'
import { createTurnstile, type TurnstileLimits } from './turnstile.ts'

/** A turnstile whose clock stands still, and what goes through it: each stays until it is let go. */
function scene(limits: Partial<TurnstileLimits> = {}) {
  const clock = { ms: 0 }
  const turnstile = createTurnstile({
    maxRunning: 2,
    maxWaiting: 10,
    maxWaitingEach: 4,
    maxWaitMs: 60_000,
    first: 'signet-system',
    monotonicMs: () => clock.ms,
    ...limits,
  })
  const inside: string[] = []
  const leave = new Map<string, () => void>()
  const refused: string[] = []
  const ask = (label: string): void => {
    const who = label.split('/')[0]!
    void turnstile
      .run(who, async () => {
        inside.push(label)
        await new Promise<void>((resolve) => leave.set(label, resolve))
        inside.splice(inside.indexOf(label), 1)
      })
      .catch((error: { code: string }) => refused.push(`${label} ${error.code}`))
  }
  const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
  /** Lets one go that has taken so long. */
  const end = async (label: string, tookMs = 0): Promise<void> => {
    clock.ms += tookMs
    leave.get(label)!()
    await settle()
  }
  return { ask, end, settle, inside, refused, clock }
}

describe('createTurnstile', () => {
  it('gives nobody two places while others wait, whoever asks more often', async () => {
    const { ask, end, settle, inside } = scene()
    for (const label of ['a/1', 'a/2', 'a/3', 'b/1', 'c/1']) ask(label)
    await settle()
    expect(inside).toEqual(['a/1', 'b/1'])
    await end('a/1')
    expect(inside).toEqual(['b/1', 'a/2'])
    await end('b/1')
    expect(inside).toEqual(['a/2', 'c/1'])
    await end('c/1')
    // A place is free, and is not given to one who has one.
    expect(inside).toEqual(['a/2'])
  })

  it('keeps a place of its own for who is first, and lets it go before all that wait', async () => {
    const { ask, end, settle, inside } = scene()
    for (const label of ['a/1', 'b/1', 'c/1', 'signet-system/1', 'signet-system/2']) ask(label)
    await settle()
    expect(inside).toEqual(['a/1', 'b/1', 'signet-system/1'])
    await end('a/1')
    expect(inside).toEqual(['b/1', 'signet-system/1', 'signet-system/2'])
    await end('signet-system/1')
    expect(inside).toEqual(['b/1', 'signet-system/2', 'c/1'])
  })

  it('keeps the last place from those that were slow, for half a minute', async () => {
    const { ask, end, settle, inside, clock } = scene()
    for (const label of ['slow/1', 'slower/1']) ask(label)
    await settle()
    await end('slow/1', 4_000)
    await end('slower/1', 4_000)
    for (const label of ['slow/2', 'slower/2', 'quick/1']) ask(label)
    await settle()
    expect(inside).toEqual(['slow/2', 'quick/1'])
    await end('quick/1', 100)
    expect(inside).toEqual(['slow/2'])
    ask('quick/2')
    await settle()
    expect(inside).toEqual(['slow/2', 'quick/2'])
    await end('quick/2')
    await end('slow/2')
    expect(inside).toEqual(['slower/2'])
    clock.ms += 30_001
    ask('slow/3')
    await settle()
    expect(inside).toEqual(['slower/2', 'slow/3'])
  })

  it('refuses at once what would wait behind too many, of its own or of all', async () => {
    const { ask, settle, refused } = scene({ maxWaiting: 5, maxWaitingEach: 2 })
    for (const label of ['a/1', 'a/2', 'a/3', 'a/4', 'b/1', 'c/1', 'd/1', 'e/1', 'f/1']) ask(label)
    await settle()
    expect(refused).toEqual(['a/4 OVERLOADED', 'f/1 OVERLOADED'])
  })

  it('does not let anybody wait longer than the answer is waited for', async () => {
    const { ask, settle, refused, inside, end } = scene({ maxRunning: 1, maxWaitMs: 20 })
    ask('a/1')
    ask('a/2')
    await expect.poll(() => refused).toEqual(['a/2 OVERLOADED'])
    await end('a/1')
    ask('b/1')
    await settle()
    expect(inside).toEqual(['b/1'])
  })
})
