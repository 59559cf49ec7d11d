import { createHash } from 'node:crypto'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { createOpaMemory } from '#engine/compile/opa-memory.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import { compilePolicy } from '../policies/compile.ts'
import { createJudge, type Judge, type Judged } from './judge.ts'

const REGO = `package sample

decision := {"evaluated": true, "violations": []} if input.ok

decision := {"evaluated": true, "violations": []} if {
	input.slow
	count([1 | some a in numbers.range(1, 100000); some b in numbers.range(1, 100000); a * b == -1]) == 0
}
`
const PASSED = { evaluated: true, violations: [] }
const LIMIT_MS = 2_000

let judged: Judged
beforeAll(async () => {
  const deps = { opa: await ensureOpa(), memory: createOpaMemory(2_048), samples: [] }
  const says = { description: 'a sample', regulation_refs: [], severity: 'low', mode: 'enforce' } as const
  judged = await compilePolicy(deps, { ...says, rule_id: 'sample', rego_content: REGO })
}, 600_000)

let judge: Judge
afterEach(() => judge.close())

describe('a judge', () => {
  it.each([
    { what: 'what is defined', input: { ok: true }, want: PASSED },
    { what: 'what is not', input: { ok: false }, want: undefined },
    { what: 'no object', input: 7, want: undefined },
    { what: 'nothing', input: undefined, want: undefined },
  ])('answers $what', async ({ input, want }) => {
    judge = createJudge({ threads: 1 })
    expect(await judge.evaluate(judged, input, LIMIT_MS)).toEqual(want)
  })

  it('interrupts what takes too long, and the same thread answers the next', async () => {
    judge = createJudge({ threads: 1 })
    const slow = judge.evaluate(judged, { slow: true }, 100)
    const next = judge.evaluate(judged, { ok: true }, LIMIT_MS)
    await expect(slow).rejects.toMatchObject({ code: 'EVALUATION_LIMIT' })
    expect(await next).toEqual(PASSED)
  })

  it('refuses what is nested too deeply to be sent', async () => {
    judge = createJudge({ threads: 1 })
    const deep: unknown = JSON.parse('['.repeat(100_000) + ']'.repeat(100_000))
    await expect(judge.evaluate(judged, deep, LIMIT_MS)).rejects.toMatchObject({ code: 'REQUEST_INVALID' })
    expect(await judge.evaluate(judged, { ok: true }, LIMIT_MS)).toEqual(PASSED)
  })

  it('fails where there is no such entrypoint', async () => {
    judge = createJudge({ threads: 1 })
    const other = { ...judged, entrypoint: 'signet/root/other/decision' }
    await expect(judge.evaluate(other, {}, LIMIT_MS)).rejects.toMatchObject({ code: 'RULE_INVALID' })
  })

  it('sends a module again that its thread has let go of', async () => {
    judge = createJudge({ threads: 1 })
    expect(await judge.evaluate(judged, { ok: true }, LIMIT_MS)).toEqual(PASSED)
    // More than a thread keeps; each is another module to it.
    for (let i = 0; i < 40; i++) {
      const digest = createHash('sha256').update(String(i)).digest('hex')
      await judge.evaluate({ ...judged, digest }, { ok: true }, LIMIT_MS)
    }
    expect(await judge.evaluate(judged, { ok: true }, LIMIT_MS)).toEqual(PASSED)
  })

  it('takes no more than may wait', async () => {
    judge = createJudge({ threads: 1 })
    const asked = Array.from({ length: 250 }, () => judge.evaluate(judged, { ok: true }, LIMIT_MS))
    const settled = await Promise.allSettled(asked)
    const refused = settled.filter((one) => one.status === 'rejected')
    expect(refused).toHaveLength(49)
    for (const { reason } of refused) expect(reason).toMatchObject({ code: 'OVERLOADED' })
  })

  it('leaves nobody waiting when it is closed', async () => {
    judge = createJudge({ threads: 1 })
    const asked = Array.from({ length: 3 }, () => judge.evaluate(judged, { slow: true }, 60_000))
    const settled = Promise.allSettled(asked)
    await judge.close()
    for (const one of await settled) expect(one).toMatchObject({ status: 'rejected', reason: { code: 'OVERLOADED' } })
    await expect(judge.evaluate(judged, { ok: true }, LIMIT_MS)).rejects.toMatchObject({ code: 'OVERLOADED' })
  })
})
