// How long a scan takes: many rules over many sets of facts, on one core.
//   node test/bench/scan.ts [--rules 1000] [--facts 10000]
import { parseArgs } from 'node:util'
import type { RuleObject } from '#core/rule/model.ts'
import { createOpaMemory } from '#engine/compile/opa-memory.ts'
import { compileRuleSet } from '#engine/compile/rule-set.ts'
import { createWasmHost } from '#engine/evaluate/host.ts'
import { webAssembly } from '#engine/evaluate/webassembly.ts'
import { ensureOpa } from '#tools/opa/build.ts'

const SETTINGS = 50
const GOAL_SECONDS = 120
const { values } = parseArgs({
  options: { rules: { type: 'string', default: '1000' }, facts: { type: 'string', default: '10000' } },
})
const [ruleCount, factCount] = [Number(values.rules), Number(values.facts)]

const rules = Array.from({ length: ruleCount }, (_, index): RuleObject => ({
  name: `rule-${index}`,
  spec: {
    description: `rule ${index}`,
    severity: 'high',
    stage: 'scan',
    frameworks: ['NIST'],
    conditions: {
      all: [
        { fact: 'user.mfa_enabled', operator: 'equal', value: true },
        {
          any: [
            { fact: `settings.s${index % SETTINGS}`, operator: 'greaterThan', value: index % 7 },
            { fact: 'user.roles', operator: 'contains', value: 'Admin' },
          ],
        },
      ],
    },
  },
}))
const factsOf = (index: number): string =>
  JSON.stringify({
    user: { mfa_enabled: index % 3 !== 0, roles: index % 5 === 0 ? ['Admin'] : ['Viewer'] },
    settings: Object.fromEntries(Array.from({ length: SETTINGS }, (_, one) => [`s${one}`, (one * index) % 11])),
  })

const opa = await ensureOpa()
const compileStartedMs = performance.now()
const { module, problems } = await compileRuleSet({
  scope: 'root',
  stage: 'scan',
  rules,
  opa,
  memory: createOpaMemory(2_048).root,
  timeoutMs: 300_000,
})
if (problems.size > 0) throw new Error(`${problems.size} rules do not compile`)
const compileMs = performance.now() - compileStartedMs
const host = createWasmHost(await webAssembly.compile(module.wasm), { maxMemoryMiB: 256, data: '{"policy":{}}' })
const entrypoint = host.entrypoints.get(module.module.aggregate)!
const startedMs = performance.now()
const before = process.cpuUsage()
let failed = 0
let expected = 0
for (let index = 0; index < factCount; index++) {
  const facts = factsOf(index)
  const decided = host.evaluate(entrypoint, facts, 5_000) as Record<string, { violations: unknown[] }>
  for (const { violations } of Object.values(decided)) failed += violations.length
  expected += failuresOf(index)
  if (process.stderr.isTTY && index % 100 === 0) process.stderr.write(`\r${index} of ${factCount}`)
}
if (process.stderr.isTTY) process.stderr.write('\r')
if (failed !== expected) throw new Error(`${failed} failures, ${expected} expected`)
const cpuSeconds = (process.cpuUsage(before).user + process.cpuUsage(before).system) / 1e6
const report = {
  rules: ruleCount,
  fact_sets: factCount,
  compile_s: Number((compileMs / 1_000).toFixed(1)),
  scan_s: Number(((performance.now() - startedMs) / 1_000).toFixed(1)),
  cpu_s: Number(cpuSeconds.toFixed(1)),
  failures: failed,
  goal_s: GOAL_SECONDS,
}
process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)

/** What the same rules find when they are applied by hand. */
function failuresOf(index: number): number {
  if (index % 3 === 0) return ruleCount
  if (index % 5 === 0) return 0
  let count = 0
  for (let rule = 0; rule < ruleCount; rule++) if (!(((rule % SETTINGS) * index) % 11 > rule % 7)) count += 1
  return count
}
