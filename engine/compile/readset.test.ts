import { beforeAll, describe, expect, it } from 'vitest'
import { ensureOpa } from '#tools/opa/build.ts'
import { compileSample, ruleSource } from './fixtures/sample.ts'

let opa: string
beforeAll(async () => {
  opa = await ensureOpa()
}, 600_000)

const library = {
  path: 'lib.rego',
  text: `package lib.x

import data.lib.y as other
import input.lineage as lineage

status := input.response.status
same(value) := value
deep := other.size
unused := input.response.body
assets := lineage.source_assets
hidden if { some status in [1]; status == 1 }
`,
}
const second = {
  path: 'lib2.rego',
  text: 'package lib.y\n\nsize := input.response.size\nroles := input.request.caller.roles\n',
}

/** The decision's value is an array that holds the expression, so that the expression is always part of `decision`. */
describe('readSet', () => {
  it.each([
    ['nothing', '1', []],
    ['a path', 'input.response.status', ['response.status']],
    ['brackets', 'input["response"].headers["cache-control"]', ['response.headers.cache-control']],
    ['a part that holds a dot', 'input.request.headers["a.b"].c', ['request.headers']],
    ['a dynamic part', 'input.response.facts[input.tenant].count', ['response.facts', 'tenant']],
    ['a wildcard', '[each | each := input.approvals[_].id]', ['approvals']],
    ['an iteration', '[each | some each in input.approvals]', ['approvals']],
    ['a dynamic first part', 'input[data.policy.name]', ['']],
    ['bare input', 'input', ['']],
    ['input as an argument', 'same(input)', ['']],
    ['part of input as an argument', 'same(input.response)', ['response']],
    ['walk', '[v | walk(input, [_, v])]', ['']],
    ['with input', '[1 | local with input as {}]', ['']],
    ['with a part of input', '[1 | local with input.response.status as 1]', ['']],
    ['a variable', '[1 | r := input.request; r.path]', ['request']],
    ['an imported path', 'req.path', ['request.path']],
    ['all of an imported path', 'same(req)', ['request']],
    ['imported input', 'everything.response.body', ['response.body']],
    ['all of imported input', 'same(everything)', ['']],
    ['a rule of the package', 'local', ['response.status']],
    ['a library', 'data.lib.x.status', ['response.status']],
    ['an imported library', 'x.status', ['response.status']],
    ['a library’s library', 'x.deep', ['response.size']],
    ['a library’s import', 'x.assets', ['lineage.source_assets']],
    [
      'all of a library',
      '[v | v := x[_]]',
      ['lineage.source_assets', 'response.body', 'response.size', 'response.status'],
    ],
    [
      'a library by a variable',
      'x[input.tenant]',
      ['lineage.source_assets', 'response.body', 'response.size', 'response.status', 'tenant'],
    ],
    [
      'all libraries',
      '[1 | some l; data.lib[l]]',
      ['lineage.source_assets', 'request.caller.roles', 'response.body', 'response.size', 'response.status'],
    ],
    ['a name that a variable hides', 'x.hidden', ['response.status']],
    ['a template string', '$"a {input.request.path} b"', ['request.path']],
    ['an else branch', 'branch', ['tenant', 'workload.region']],
    ['what another path covers', '[input.request.path, input.request]', ['request']],
    ['a sibling with a longer name', '[input.request, input.requests.x]', ['request', 'requests.x']],
    ['every', '[1 | every h in input.request.headers { h != "" }]', ['request.headers']],
    ['a head', 'partial', ['tenant']],
    ['a default', 'fallback', ['channel']],
  ] as [string, string, string[]][])('of %s', async (_, expression, want) => {
    const rule = ruleSource(
      'a',
      `import data.lib.x
import input as everything
import input.request as req

decision := {"evaluated": true, "violations": [], "value": ${expression}}
local if input.response.status == 200
branch := 1 if { input.tenant == "a" } else := 2 if { input.workload.region == "eu" }
partial contains input.tenant
default fallback := 1
fallback := input.channel
same(value) := value
unrelated := input.response.body`,
    )
    const { module } = await compileSample(opa, [rule, library, second])
    expect(module.rules[0]!.reads).toEqual(want)
  })
})
