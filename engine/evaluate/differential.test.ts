import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, describe, expect, it } from 'vitest'
import { compileSample, ruleSource } from '#engine/compile/fixtures/sample.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import { createWasmHost } from './host.ts'
import { webAssembly } from './webassembly.ts'

const run = promisify(execFile)

let opa: string
beforeAll(async () => {
  opa = await ensureOpa()
}, 600_000)

/**
 * Known difference: wasm iterates objects and sets of text in an order of its own, so that text made of them (`concat` of a set,
 * a template of an object) has another order than in OPA; `sort` first. The order is the same each time.
 *
 * Expressions over `input` in which an own wasm host could differ from OPA: text, numbers, sets, regular expressions, undefined.
 */
const EXPRESSIONS = [
  '$"{input.text} {input.n} {input.f} {input.list} {input.none}"',
  'concat("|", sort(input.words))',
  'upper(input.text)',
  'lower(input.text)',
  'count(input.text)',
  'substring(input.text, 1, 3)',
  'split(input.csv, ",")',
  'indexof(input.text, "ö")',
  'strings.reverse(input.text)',
  'trim_space(" x\t")',
  'replace(input.text, "ö", "oe")',
  'format_int(input.n, 16)',
  '[w | some w in input.words; regex.match(`^[a-c]+$`, w)]',
  'regex.find_all_string_submatch_n(`(\\w)(\\d)`, input.csv, -1)',
  'regex.match(`(?i)^Ö`, input.text)',
  'glob.match("/reports/*", ["/"], input.path)',
  '{w | some w in input.words}',
  '{w: count(w) | some w in input.words}',
  'sum(input.list)',
  'max(input.list)',
  'input.n / 3',
  'input.n * 1000000007 * 1000000007',
  'input.f + 0.2',
  'input.big + 1',
  'input.big == 9007199254740993',
  'round(input.f * 100)',
  'ceil(input.f)',
  '7 % 3',
  'bits.and(input.n, 12)',
  'to_number("12.50")',
  '$"{{3, 1, 2}} {{"b": [input.f]}} {{{"z"}}}"',
  '$"{input.deep}"',
  '$"{input.text}{input.big}{1 == 1}"',
  'concat(",", sort({w | some w in input.words}))',
  'json.unmarshal("{\\"a\\": [1, 2.50]}")',
  'base64.encode(input.text)',
  'base64url.decode("w7ZrbGE")',
  'object.get(input, ["deep", "er", "x"], "none")',
  'object.union(input.deep, {"y": 1})',
  'array.concat(input.list, input.words)',
  'input.missing.path',
  'to_number("x")',
  'input.words[7]',
  'net.cidr_contains("10.0.0.0/8", "10.1.2.3")',
  'type_name(input.none)',
  '[x | walk(input.deep, [p, x]); count(p) > 1]',
  'numbers.range(3, 1)',
  'intersection({{1, 2}, {2, 3}})',
  'union({{1, "a"}, {2, null}})',
]
const INPUT =
  '{"text":"Ökö 𝄞 \\u0001\\"","n":255,"f":0.1,"big":9007199254740993,"list":[3,1,2.5],"words":["b","abc","zz","a"],' +
  '"csv":"a1,b2,,c3","path":"/reports/7","none":null,"deep":{"er":{"x":[1,{"z":true}]}}}'

/** Sets come out of wasm as arrays in no order; OPA sorts them. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted).sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, sorted(member)]))
}

describe('the wasm host', () => {
  it('computes what opa eval computes', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'signet-differential-test-'))
    try {
      const rules = EXPRESSIONS.map((expression, index) => `v[${index}] := x if { x := ${expression} }`).join('\n')
      const source = ruleSource('probe', `decision := {"evaluated": true, "violations": [], "v": v}\n${rules}`)
      await writeFile(join(directory, 'probe.rego'), source.text)
      await writeFile(join(directory, 'input.json'), INPUT)
      const args = ['eval', '--format=raw', '--data=probe.rego', '--input=input.json', 'data.probe.v']
      const { stdout } = await run(opa, args, { cwd: directory })
      const want = JSON.parse(stdout) as Record<string, unknown>
      const { wasm } = await compileSample(opa, [source])
      const host = createWasmHost(await webAssembly.compile(wasm), { maxMemoryMiB: 32 })
      for (let round = 0; round < 3; round++) {
        const { v } = host.evaluate(host.entrypoints.get('signet/root/probe/decision')!, INPUT, 2_000) as {
          v: Record<string, unknown>
        }
        EXPRESSIONS.forEach((expression, index) => {
          expect(sorted(v[index]), expression).toEqual(sorted(want[index]))
        })
        expect(Object.keys(want).length).toBeGreaterThan(EXPRESSIONS.length - 6)
      }
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  })
})
