import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ruleSource } from '#engine/compile/fixtures/sample.ts'
import { exchange } from '#test/support/http-exchange.ts'
import { PASS_RULE, startProxyFixture, until, type ProxyFixture } from '#test/support/proxy-fixture.ts'

const CLOSED_OUTSIDE = { custom: 'mode: enforce, undecidable: {external: closed, internal: open}' }
const CLOSED = { custom: 'mode: enforce, undecidable: {external: closed, internal: closed}' }
const GOOD = 'default decision := {"evaluated": true, "violations": []}\n\n'

/** A rule that goes wrong only for its own path. */
function faulty(id: string, body: string, options = CLOSED_OUTSIDE) {
  return ruleSource(id, body, options)
}

const RULES = [
  PASS_RULE,
  faulty(
    'loops',
    `decision := {"evaluated": true, "violations": []} if not input.request.path == "/loops"

decision := {"evaluated": true, "violations": [], "regulations": [$"N{n}"]} if {
	input.request.path == "/loops"
	n := count([1 | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); a * b == 7])
}`,
  ),
  faulty(
    'aborts',
    `decision := {"evaluated": true, "violations": []} if not input.request.path == "/aborts"

decision := {"evaluated": true, "violations": numbers.range(1, 600000)} if input.request.path == "/aborts"`,
  ),
  faulty(
    'conflicts',
    `${GOOD}decision := {"evaluated": true, "violations": [], "classification": "public"} if startswith(input.request.path, "/conflict")

decision := {"evaluated": true, "violations": [], "classification": "internal"} if endswith(input.request.path, "/conflicts")`,
  ),
  faulty('undefined', 'decision := {"evaluated": true, "violations": []} if not input.request.path == "/undefined"'),
  faulty(
    'no-sentinel',
    `decision := {"evaluated": true, "violations": []} if not input.request.path == "/no-sentinel"

decision := {"violations": []} if input.request.path == "/no-sentinel"`,
  ),
  faulty(
    'wrong-shape',
    `decision := {"evaluated": true, "violations": []} if not input.request.path == "/wrong-shape"

decision := {"evaluated": true, "violations": "none"} if input.request.path == "/wrong-shape"`,
  ),
]

let fixture: ProxyFixture
beforeAll(async () => {
  fixture = await startProxyFixture({
    rules: RULES,
    env: { SIGNET_POLICY_EVAL_TIMEOUT_MS: '100', SIGNET_POLICY_MEMORY_MIB: '16' },
  })
  fixture.upstream.answer = (_request, response) =>
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"a":1}')
})
afterAll(() => fixture.stop())

let asked = 0
/** A rule that timed out is paused for a while. Each path is new, so that no decision comes from the cache. */
function nonePaused(): Promise<unknown> {
  return until(
    'no rule to be paused',
    async () => (await exchange(`${fixture.stack.external}/fine/${(asked += 1)}`)).status === 200,
  )
}

type Problem = { violations: { rule: string; message: string }[]; request_id: string }

describe.each(['loops', 'aborts', 'conflicts', 'undefined', 'no-sentinel', 'wrong-shape'])('a rule that %s', (rule) => {
  test('is the only one that is undecidable; closed outside, open inside', async () => {
    await nonePaused()
    const external = await exchange(`${fixture.stack.external}/${rule}`)
    expect(external.status).toBe(422)
    const problem = JSON.parse(external.body.toString()) as Problem
    expect(problem.violations.map((violation) => violation.rule)).toEqual([rule])
    expect(problem.violations[0]?.message).toContain('could not be judged')
    const [event] = await fixture.events(problem.request_id)
    expect(event?.context?.['undecidable']).toMatchObject([{ rule, refused: true }])
    const internal = await exchange(`${fixture.stack.internal}/${rule}`)
    expect(internal.status).toBe(200)
    expect(internal.headers['compliance-stamp']).toBeDefined()
    expect(await fixture.stack.sample(`signet_rules_undecidable_total{rule="${rule}"}`)).toBeGreaterThanOrEqual(2)
  })
})

test('a rule that loops holds the event loop no longer than its limit, and then is paused', async () => {
  await nonePaused()
  const startedAt = performance.now()
  const slow = Promise.all(Array.from({ length: 10 }, () => exchange(`${fixture.stack.external}/loops`)))
  const other = exchange(`${fixture.stack.admin}/livez`)
  expect((await other).status).toBe(200)
  const answers = await slow
  // 100 ms for all rules at once, 100 ms for the guilty one alone; whoever comes next finds it paused.
  expect(performance.now() - startedAt).toBeLessThan(1_500)
  expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(422))
  await nonePaused()
})

describe('a rule that reads the body', () => {
  let own: ProxyFixture
  beforeAll(async () => {
    own = await startProxyFixture({
      rules: [
        PASS_RULE,
        ruleSource(
          'body',
          'decision := {"evaluated": true, "violations": [v | some v in violations]}\n\nviolations contains {"severity": "low", "message": "secret item", "remediation": {"hint": "x"}, "frameworks": []} if {\n\tsome item in input.response.body.items\n\titem.label == "secret"\n}',
          CLOSED_OUTSIDE,
        ),
        ruleSource(
          'strict-body',
          'decision := {"evaluated": true, "violations": []} if input.response.body.items',
          CLOSED,
        ),
      ],
    })
  })
  afterAll(() => own.stop())

  const deep = (levels: number): string => `{"items":${'['.repeat(levels - 1)}${']'.repeat(levels - 1)}}`
  const READABLE = [
    { name: 'plain', body: '{"items":[{"label":"x"}]}', want: [] },
    { name: 'a secret item', body: '{"items":[{"label":"secret"}]}', want: ['body'] },
    { name: 'an escaped secret item', body: '{"items":[{"\\u006cabel":"\\u0073ecret"}]}', want: ['body'] },
    { name: 'large numbers', body: '{"items":[1e308,123456789012345678901234567890,-0.0]}', want: [] },
    { name: '64 deep', body: deep(64), want: [] },
  ]
  const UNREADABLE = [
    { name: 'a name twice', body: Buffer.from('{"items":[],"items":[{"label":"secret"}]}') },
    { name: 'a name twice, nested and escaped', body: Buffer.from('{"items":[{"label":"secret","\\u006cabel":"x"}]}') },
    { name: 'truncated', body: Buffer.from('{"items":[{"label":"secret"}]') },
    { name: 'something behind', body: Buffer.from('{"items":[]} {"items":[{"label":"secret"}]}') },
    {
      name: 'invalid UTF-8',
      body: Buffer.concat([Buffer.from('{"items":["'), Buffer.from([0xff, 0xfe]), Buffer.from('"]}')]),
    },
    { name: 'UTF-16', body: Buffer.from('{"items":[{"label":"secret"}]}', 'utf16le') },
    { name: 'a byte order mark', body: Buffer.from('\ufeff{"items":[]}') },
    { name: '65 deep', body: Buffer.from(deep(65)) },
    { name: '10,000 deep', body: Buffer.from(deep(10_000)) },
    { name: 'single quotes', body: Buffer.from("{'items':[]}") },
    { name: 'NaN', body: Buffer.from('{"items":[NaN]}') },
    { name: 'empty', body: Buffer.alloc(0) },
    { name: 'CSV that says it is JSON', body: Buffer.from('a,b\n1,2\n') },
  ]

  function answerWith(body: string | Buffer, type = 'application/json'): void {
    own.upstream.answer = (_request, response) => response.writeHead(200, { 'content-type': type }).end(body)
  }
  const rulesOf = (text: string): string[] => (JSON.parse(text) as Problem).violations.map(({ rule }) => rule).sort()

  test.each(READABLE)('gets it parsed: $name', async ({ body, want }) => {
    answerWith(body)
    const answer = await exchange(`${own.stack.external}/b`)
    expect(answer.status === 200 ? [] : rulesOf(answer.body.toString())).toEqual(want)
  })

  test.each(UNREADABLE)('is undecidable where it cannot be parsed strictly: $name', async ({ body }) => {
    answerWith(body)
    const answer = await exchange(`${own.stack.external}/b`)
    expect(answer.status).toBe(422)
    expect(rulesOf(answer.body.toString())).toEqual(['body', 'strict-body'])
    const internal = await exchange(`${own.stack.internal}/b`)
    expect(rulesOf(internal.body.toString())).toEqual(['strict-body'])
  })

  test('is undecidable for other media types, and for a body past the buffer', async () => {
    answerWith('{"items":[]}', 'text/plain')
    expect((await exchange(`${own.stack.external}/b`)).status).toBe(422)
    answerWith(JSON.stringify({ items: ['x'.repeat(1_100_000)] }))
    const answer = await exchange(`${own.stack.external}/b`)
    expect(rulesOf(answer.body.toString())).toEqual(['body', 'strict-body'])
    expect(answer.body.toString()).not.toContain('xxx')
  })

  test('HEAD has no body to read: undecidable', async () => {
    answerWith('')
    expect((await exchange(`${own.stack.external}/b`, { method: 'HEAD' })).status).toBe(422)
  })
})

test('the process is the same, and nothing is left in flight', async () => {
  expect(fixture.stack.child.exitCode).toBeNull()
  await until('nothing in flight', async () => (await fixture.stack.sample('signet_in_flight')) === 0)
})
