import { expect, it } from 'vitest'
import { createRevocationLookup } from './lookup.ts'
import type { Standing, Target } from './store.ts'

const producer = (target: string): Target => ({ tenant: 'acme', kind: 'producer', target })
const standing = (target: string): Standing => ({ ...producer(target), id: `id of ${target}`, reason: 'incident' })

/** A database that is told when to answer. */
function database() {
  const questions: { targets: readonly Target[]; answer: (found: Standing[]) => void; fail: () => void }[] = []
  let now = 0
  const lookup = createRevocationLookup({
    find: (targets) =>
      new Promise((resolve, reject) =>
        questions.push({ targets, answer: resolve, fail: () => reject(new Error('away')) }),
      ),
    now: () => now,
    answerWithinMs: 50,
  })
  const next = async () => {
    await expect.poll(() => questions.length).toBeGreaterThan(0)
    return questions.shift()!
  }
  const outcome = (target: string, fresh = false): Promise<string | null> =>
    lookup.find([producer(target)], { fresh }).then(
      (found) => found?.id ?? null,
      (error: { code: string }) => error.code,
    )
  /** Asks, and has it answered. */
  const say = async (target: string, found: Standing[]): Promise<string | null> => {
    const said = outcome(target)
    ;(await next()).answer(found)
    return said
  }
  return { lookup, next, outcome, say, pass: (ms: number) => void (now += ms), pending: () => questions.length }
}

it('what was said counts for less than a second', async () => {
  const { next, outcome, say, pass, pending } = database()
  await say('a', [])
  pass(999)
  expect([await outcome('a'), pending()]).toEqual([null, 0])
  pass(1)
  const later = outcome('a')
  ;(await next()).answer([standing('a')])
  expect(await later).toBe('id of a')
})

it('the second is counted from the question, not from its answer', async () => {
  const { next, outcome, pass, pending } = database()
  const first = outcome('a')
  const question = await next()
  pass(1_000)
  question.answer([])
  await first
  void outcome('a')
  await expect.poll(pending).toBe(1)
})

it.each([
  { name: 'that has to be exact', fresh: true },
  { name: 'that comes while a question is under way', fresh: false },
])('a call $name is not answered by what was asked before it', async ({ fresh }) => {
  const { next, outcome } = database()
  const first = outcome('a')
  const question = await next()
  const second = outcome('a', fresh)
  question.answer([])
  expect(await first).toBeNull()
  ;(await next()).answer([standing('a')])
  expect(await second).toBe('id of a')
})

it('calls that wait at the same time are one question, each target once', async () => {
  const { next, outcome, pending } = database()
  const first = outcome('a')
  const waiting = [outcome('b'), outcome('b'), outcome('c')]
  ;(await next()).answer([])
  await first
  const { targets, answer } = await next()
  expect(targets.map(({ target }) => target)).toEqual(['b', 'c'])
  answer([standing('c')])
  expect(await Promise.all(waiting)).toEqual([null, null, 'id of c'])
  expect(pending()).toBe(0)
})

it('what was forgotten is asked for again, and an answer that was under way is not kept', async () => {
  const { lookup, next, outcome, say, pending } = database()
  await say('a', [])
  const other = outcome('b')
  const question = await next()
  lookup.forget(producer('a'))
  question.answer([])
  await other
  expect(pending()).toBe(0)
  for (const target of ['a', 'b']) {
    const again = outcome(target)
    ;(await next()).answer([standing(target)])
    expect(await again).toBe(`id of ${target}`)
  }
})

const MINUTES_15 = 15 * 60_000
it.each([
  { name: 'let in lately', before: [], pass: MINUTES_15 - 1, wantOutcome: null },
  { name: 'let in too long ago', before: [], pass: MINUTES_15, wantOutcome: 'IDENTITY_UNAVAILABLE' },
  { name: 'let in lately, and asks for keys', before: [], pass: 1, fresh: true, wantOutcome: 'IDENTITY_UNAVAILABLE' },
  { name: 'shut out, however long ago', before: [standing('a')], pass: 10 * MINUTES_15, wantOutcome: 'id of a' },
  { name: 'shut out, and asks for keys', before: [standing('a')], pass: 1, fresh: true, wantOutcome: 'id of a' },
  { name: 'unknown', before: null, pass: 0, wantOutcome: 'IDENTITY_UNAVAILABLE' },
])('while nobody can be asked: $name', async ({ before, pass: ms, fresh = false, wantOutcome }) => {
  const { next, outcome, say, pass } = database()
  if (before !== null) await say('a', before)
  pass(Math.max(ms, fresh ? 0 : 1_000))
  const after = outcome('a', fresh)
  ;(await next()).fail()
  expect(await after).toBe(wantOutcome)
})

it('who is known does not wait for a database that hangs, but once a second', async () => {
  const { next, outcome, say, pass, pending } = database()
  await say('a', [])
  pass(1_000)
  const hanging = outcome('a')
  await next()
  expect(await hanging).toBeNull()
  pass(999)
  expect([await outcome('a'), pending()]).toEqual([null, 0])
  pass(1)
  const after = outcome('a')
  ;(await next()).answer([standing('a')])
  expect(await after).toBe('id of a')
})

it('who is unknown waits, also where the database hangs, and the next question is asked', async () => {
  const { next, outcome, say } = database()
  const hanging = outcome('a')
  await next()
  expect(await hanging).toBe('IDENTITY_UNAVAILABLE')
  expect(await say('a', [])).toBeNull()
})
