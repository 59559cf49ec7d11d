import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { gunzipSync } from 'node:zlib'
import { readTar } from '#engine/bundle/tar.ts'
import { createWasmHost } from '#engine/evaluate/host.ts'
import { webAssembly } from '#engine/evaluate/webassembly.ts'
import { ensureOpa } from './build.ts'

const run = promisify(execFile)

/** What `engine/compile` hands to OPA: it decides which built-ins a rule may use. */
export const CAPABILITIES_PATH = fileURLToPath(new URL('../../engine/compile/capabilities.json', import.meta.url))

interface Builtin {
  name: string
  decl: { args?: unknown[] }
  relation?: boolean
  deprecated?: boolean
  nondeterministic?: boolean
}

/** The language itself: operators and rewrites without a function of their own to probe. */
const LANGUAGE = new Set([
  'assign',
  'eq',
  'internal.member_2',
  'internal.member_3',
  'internal.print',
  'internal.template_string',
  'print',
])
/** Meaningless outside `opa test` and tracing; and `json.marshal`, which orders keys otherwise than OPA. */
const LEFT_OUT = new Set(['internal.test_case', 'trace', 'json.marshal'])
const FEATURES = ['keywords_in_refs', 'rego_v1', 'template_strings']

/**
 * The capabilities file as text: exactly the built-ins that the wasm module runs by itself. Found by asking: one rule that
 * calls every built-in is compiled, and the module names those for which it would call its host. Ours provides none.
 */
export async function generateCapabilities(opa: string): Promise<string> {
  const { stdout } = await run(opa, ['capabilities', '--current'], { maxBuffer: 1 << 26 })
  const current = JSON.parse(stdout) as { builtins: Builtin[] }
  const candidates = current.builtins.filter(
    (b) =>
      !LANGUAGE.has(b.name) &&
      !LEFT_OUT.has(b.name) &&
      !b.deprecated &&
      !b.nondeterministic &&
      !b.name.startsWith('rego.metadata.'),
  )
  const directory = await mkdtemp(join(tmpdir(), 'signet-capabilities-'))
  try {
    const calls = candidates.map((b, index) => {
      const args = (b.decl.args ?? []).map((_, position) => `input.a${position}`)
      return `r${index} := x if ${b.relation ? `${b.name}(${args.join(', ')}, x)` : `x := ${b.name}(${args.join(', ')})`}`
    })
    await writeFile(join(directory, 'probe.rego'), `package probe\n\n${calls.join('\n')}\n`)
    const bundle = join(directory, 'probe.tar.gz')
    await run(opa, ['build', '-t', 'wasm', '-e', 'probe', '-o', bundle, join(directory, 'probe.rego')])
    const wasm = readTar(gunzipSync(await readFile(bundle))).get('policy.wasm')
    if (wasm === undefined) throw new Error('opa build made no policy.wasm')
    const host = createWasmHost(await webAssembly.compile(wasm), { maxMemoryMiB: 16, allowHostBuiltins: true })
    const hosted = new Set(host.hostBuiltins)
    const native = new Set([...candidates.map((b) => b.name).filter((name) => !hosted.has(name)), ...LANGUAGE])
    const capabilities = {
      builtins: current.builtins.filter((b) => native.has(b.name)),
      features: FEATURES,
      wasm_abi_versions: [1, 2, 3].map((minor) => ({ version: 1, minor_version: minor })),
      allow_net: [],
    }
    return `${JSON.stringify(capabilities, null, 1)}\n`
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

if (import.meta.main) await writeFile(CAPABILITIES_PATH, await generateCapabilities(await ensureOpa()))
