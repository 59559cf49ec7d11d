import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse, stringify } from 'yaml'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { condition, eventually } from '#test/support/operator-process.ts'
import { GOOD, startHostileStack, type HostileStack } from './hostile-stack.ts'

/*
 * Objects that mean harm, against a real API server and a real operator. Each is refused (with a condition and a plain message), counted, and
 * survived: the event loop answers, memory stays in bounds, and a good rule applied afterwards is distributed within seconds.
 */
let stack: HostileStack
beforeAll(async () => {
  stack = await startHostileStack(['lax', 'crowd', 'bombs', 'loops'])
  await stack.apply('control', 'standing', GOOD)
  await stack.says('control/standing', 'Distributed', 'True NoProxies')
}, 300_000)
afterAll(() => stack?.stop())

const CRD = path.resolve(import.meta.dirname, '../../crds/compliancerules.signet.dev.yaml')

/** The CRD of somebody who knows no schema: everything is stored as it comes. */
async function loosenSchema(): Promise<void> {
  const crd = parse(readFileSync(CRD, 'utf8')) as {
    spec: { versions: { schema: { openAPIV3Schema: object }; additionalPrinterColumns?: unknown }[] }
  }
  for (const version of crd.spec.versions) {
    version.schema.openAPIV3Schema = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true }
    delete version.additionalPrinterColumns
  }
  await stack.server.kubectl(['replace', '-f', '-'], stringify(crd))
  // The API server takes a moment to serve by it.
  await eventually('the schema is gone', async () => (await create('lax', 'probe', { spec: 7 })) === 201)
  await stack.server.request('DELETE', `${COLLECTION('lax')}/probe`)
}
const COLLECTION = (namespace: string): string => `/apis/signet.dev/v1alpha1/namespaces/${namespace}/compliancerules`

/** `deep`: text in the place of `"DEEP"`, for what JSON.stringify cannot write itself. */
async function create(namespace: string, name: string, rest: object, deep = ''): Promise<number> {
  const body = { apiVersion: 'signet.dev/v1alpha1', kind: 'ComplianceRule', metadata: { name }, ...rest }
  const text = JSON.stringify(body).replace('"DEEP"', deep)
  const { status } = await stack.server.request('POST', COLLECTION(namespace), text)
  if (status !== 504) return status
  // The API server takes half a minute for the biggest on a busy machine, and gives up; then it may be there all the same.
  const again = await stack.server.request('POST', COLLECTION(namespace), text)
  return again.status === 409 ? 201 : again.status
}

function nested(levels: number): string {
  const leaf = '{"fact": "response.status", "operator": "lessThan", "value": 500}'
  return `${'{"all":['.repeat(levels)}${leaf}${']}'.repeat(levels)}`
}
const HEAD = { description: 'x', severity: 'low' }

describe('objects past the schema', () => {
  const BAD: { name: string; rest: object; deep?: string }[] = [
    { name: 'no-spec', rest: {} },
    { name: 'null-spec', rest: { spec: null } },
    { name: 'text-spec', rest: { spec: 'conditions' } },
    { name: 'list-spec', rest: { spec: [[[]]] } },
    { name: 'number-spec', rest: { spec: 1e308 } },
    {
      name: 'types',
      rest: { spec: { description: 7, severity: [], frameworks: 'GDPR', match: 3, conditions: 'all' } },
    },
    { name: 'deep', rest: { spec: { ...HEAD, conditions: 'DEEP' } }, deep: nested(4_000) },
    { name: 'wide', rest: { spec: { ...HEAD, conditions: { all: Array.from({ length: 50_000 }, () => ({})) } } } },
    { name: 'huge', rest: { spec: { ...HEAD, rego: 'x'.repeat(1_300_000) } } },
    { name: 'members', rest: { spec: Object.fromEntries(Array.from({ length: 60_000 }, (_, i) => [`m${i}`, i])) } },
    { name: 'obligations', rest: { spec: { ...HEAD, ...GOOD, obligations: null, stage: {} } } },
    { name: 'proto', rest: { spec: { ...HEAD, ...GOOD, constructor: { prototype: 1 }, hasOwnProperty: 1 } } },
    { name: '0.not-a-label', rest: { spec: { ...HEAD, ...GOOD } } },
    { name: `l${'o'.repeat(200)}ng`, rest: { spec: { ...HEAD, ...GOOD } } },
  ]

  it('are told so in their status, and hold up nobody in their namespace or elsewhere', async () => {
    await loosenSchema()
    await stack.survives(async () => {
      await stack.apply('lax', 'beside', GOOD)
      for (const { name, rest, deep } of BAD) expect([name, await create('lax', name, rest, deep)]).toEqual([name, 201])
      await stack.apply('lax', 'after', GOOD)
      for (const { name } of BAD) await stack.says(`lax/${name}`, 'Accepted', 'False InvalidSpec')
      for (const name of ['beside', 'after']) await stack.says(`lax/${name}`, 'Distributed', 'True NoProxies')
    })
    expect(await stack.metric('signet_operator_rules', { state: 'invalid' })).toBe(BAD.length)
    expect(await stack.metric('signet_operator_informer_handler_failures')).toBe(null)
    expect(stack.operator.log.filter(({ level }) => level === 'error' || level === 50)).toEqual([])
  })

  it('with a status that is none are given a right one', async () => {
    await stack.survives(async () => {
      const forged = { conditions: { length: 3 }, errors: 'none', revision: {}, observedGeneration: '1' }
      const patch = { contentType: 'application/merge-patch+json' }
      const at = `${COLLECTION('lax')}/beside/status`
      expect((await stack.server.request('PATCH', at, { status: forged }, patch)).status).toBe(200)
      expect(
        (await stack.server.request('PATCH', `${COLLECTION('lax')}/types/status`, { status: 7 }, patch)).status,
      ).toBe(200)
      await stack.apply('lax', 'another', GOOD)
      await stack.says('lax/another', 'Distributed', 'True NoProxies')
      // Our own last write is trusted for 30 s.
      await stack.says('lax/beside', 'Distributed', 'True NoProxies', 90_000)
      await stack.says('lax/types', 'Accepted', 'False InvalidSpec', 90_000)
    })
  })

  it('with annotations past what the API server takes are refused there', async () => {
    const body = { metadata: { name: 'annotated', annotations: { a: 'x'.repeat(1_000_000) } }, spec: HEAD }
    expect(await create('lax', 'annotated', body)).toBe(422)
  })

  it('go with a restart, too', async () => {
    await stack.restart()
    await stack.survives(() => stack.says('lax/no-spec', 'Accepted', 'False InvalidSpec'))
    expect(stack.operator.log.filter(({ level }) => level === 'fatal')).toEqual([])
  })
})

describe('a crowd', () => {
  it('of 2,000 rules made at once and deleted at once passes', async () => {
    const names = Array.from({ length: 2_000 }, (_, index) => `crowd-${index}`)
    await stack.survives(
      async () => {
        const waiting = [...names]
        const work = async (): Promise<void> => {
          for (let name = waiting.pop(); name !== undefined; name = waiting.pop())
            expect(await create('crowd', name, { spec: { ...HEAD, ...GOOD } })).toBe(201)
        }
        await Promise.all(Array.from({ length: 16 }, work))
        await stack.server.request('DELETE', COLLECTION('crowd'))
      },
      { goodMs: 45_000 },
    )
    await eventually(
      'they are gone',
      () => [...stack.rules.all()].every(({ metadata }) => metadata.namespace !== 'crowd'),
      60_000,
    )
    await eventually('and counted no more', async () => (await stack.metric('signet_operator_rules'))! < 100, 90_000)
  }, 300_000)
})

describe('bombs', () => {
  const rego = (name: string, body: string): string => `package ${name.replaceAll('-', '_')}\n\n${body}\n`
  const PASS = 'decision := {"evaluated": true, "violations": []}'
  /** `want`: of the first error. What the operator sees of those that the schema refuses, it sees since the schema is gone. */
  const BOMBS: { name: string; rego: string; want: RegExp; condition?: 'Accepted' }[] = [
    {
      name: 'brackets',
      rego: rego('brackets', `x := ${'['.repeat(30_000)}${']'.repeat(30_000)}\n${PASS}`),
      want: /OPA|pars|depth|nest/i,
    },
    {
      name: 'parentheses',
      rego: rego('parentheses', `x := ${'('.repeat(30_000)}1${')'.repeat(30_000)}\n${PASS}`),
      want: /OPA|pars|depth|nest/i,
    },
    {
      name: 'comprehensions',
      rego: rego('comprehensions', `${PASS} if { x := ${'[1 | y := '.repeat(400)}1${']'.repeat(400)}; count(x) > 0 }`),
      want: /OPA|pars|depth|nest|unused|exp/i,
    },
    {
      name: 'set',
      rego: `package set_\n\nx := {${Array.from({ length: 1_000_000 }, (_, i) => i).join(',')}}`.slice(0, 1_300_000),
      want: /65536|characters/,
      condition: 'Accepted',
    },
    {
      name: 'thousands',
      rego: rego('thousands', Array.from({ length: 5_000 }, (_, i) => `r${i} := 1`).join('\n')),
      want: /decision/,
    },
    { name: 'recursion', rego: rego('recursion', 'f(x) := g(x)\ng(x) := f(x)\ndecision := f(1)'), want: /recursive/ },
    { name: 'unknown', rego: rego('unknown', 'decision := no.such(1)'), want: /undefined function no.such/ },
    {
      name: 'http',
      rego: rego('http', 'decision := http.send({"method": "get", "url": "http://169.254.169.254"})'),
      want: /http.send/,
    },
    { name: 'runtime', rego: rego('runtime', 'decision := opa.runtime()'), want: /opa.runtime/ },
    { name: 'trace', rego: rego('trace', 'decision := net.lookup_ip_addr("example.com")'), want: /net.lookup_ip_addr/ },
    {
      name: 'foreign',
      rego: rego('foreign', `import data.signet.root.pass as p\ndecision := p.decision`),
      want: /data/,
    },
    { name: 'whole', rego: rego('whole', 'decision := data'), want: /data/ },
    { name: 'system', rego: 'package system.authz\n\nallow := true', want: /decision|system/ },
    { name: 'policy', rego: `package policy\n\n${PASS}`, want: /policy data/ },
    { name: 'entry', rego: `# METADATA\n# entrypoint: true\npackage entry\n\n${PASS}`, want: /entrypoint/ },
    { name: 'nothing', rego: '\u0000', want: /control characters/, condition: 'Accepted' },
  ]

  it('are their own fault; what stood stands, and what is good gets in beside them', async () => {
    await stack.apply('bombs', 'stood', GOOD)
    await stack.says('bombs/stood', 'Distributed', 'True NoProxies')
    const before = await stack.revision('bombs')
    await stack.survives(
      async () => {
        for (const bomb of BOMBS)
          expect([bomb.name, await create('bombs', bomb.name, { spec: { ...HEAD, rego: bomb.rego } })]).toEqual([
            bomb.name,
            201,
          ])
      },
      { goodMs: 30_000 },
    )
    for (const { name, want, condition: refused } of BOMBS) {
      if (refused === 'Accepted') await stack.says(`bombs/${name}`, 'Accepted', 'False InvalidSpec', 60_000)
      else await stack.says(`bombs/${name}`, 'Compiled', 'False DoesNotCompile', 60_000)
      const { conditions = [], errors = [] } = stack.rules.latest(`bombs/${name}`)?.status ?? {}
      const said = [...errors, ...conditions.filter(({ status }) => status === 'False')].map(({ message }) => message)
      expect([name, said.find((message) => want.test(message)) ?? said]).toEqual([name, expect.stringMatching(want)])
      expect(condition(stack.rules.latest(`bombs/${name}`), 'Distributed')).toBe('False NotCompiled')
    }
    await stack.apply('bombs', 'beside', GOOD)
    await stack.says('bombs/beside', 'Distributed', 'True NoProxies')
    expect(condition(stack.rules.latest('bombs/stood'), 'Distributed')).toBe('True NoProxies')
    expect(await stack.revision('bombs')).not.toBe(before)
    await eventually(
      'they are counted',
      async () => (await stack.metric('signet_operator_rules', { state: 'faulty' }))! >= BOMBS.length - 2,
      60_000,
    )
  }, 300_000)

  const SPIN =
    'count([1 | numbers.range(1, 400)[_]; numbers.range(1, 400)[_]; numbers.range(1, 400)[_]; numbers.range(1, 400)[_]]) > 0'
  const LOOPS: { name: string; body: string }[] = [
    { name: 'spins', body: `decision := {"evaluated": ${SPIN}, "violations": []}` },
    {
      name: 'allocates',
      body: 'decision := {"evaluated": count([x | x := numbers.range(1, 3000000)[_]]) > 0, "violations": []}',
    },
    {
      name: 'walks',
      body: 'decision := {"evaluated": count([1 | walk(input, [_, _]); walk(input, [_, _]); walk(input, [_, _]); walk(input, [_, _])]) > 0, "violations": []}',
    },
    {
      name: 'aborts',
      body: 'decision := {"evaluated": true, "violations": []}\ndecision := {"evaluated": true, "violations": [{"message": "x"}]} if input.channel',
    },
  ]

  it('that go off at evaluation are left out by themselves, and hold nothing up', async () => {
    await stack.survives(
      async () => {
        await stack.apply('loops', 'stands', GOOD)
        for (const { name, body } of LOOPS)
          expect(await create('loops', name, { spec: { ...HEAD, rego: rego(name, body) } })).toBe(201)
        await stack.says('loops/stands', 'Distributed', 'True NoProxies', 120_000)
      },
      { goodMs: 30_000 },
    )
    for (const { name } of LOOPS) await stack.says(`loops/${name}`, 'Compiled', 'False DoesNotCompile', 120_000)
    await stack.apply('loops', 'comes', GOOD)
    await stack.says('loops/comes', 'Distributed', 'True NoProxies', 60_000)
  }, 400_000)
})
