import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import { SignetError } from '#core/error/signet-error.ts'
import { isLive, type CompiledRule } from '#core/policy/manifest.ts'
import { readTar } from '#engine/bundle/tar.ts'
import { memoryForSources } from './opa-memory.ts'
import { CAPABILITIES, readOpaErrors, runOpa, type OpaProcess } from './opa.ts'
import { compareText, ruleInvalid, tooLarge } from './problem.ts'

/** Rego that goes into a module, already where it belongs. */
export interface ModuleFile {
  /** As errors name it. */
  path: string
  text: string
}

/**
 * Builds the wasm of these files, `maxBytes` at most, with an entrypoint for each rule and the aggregate. `files`: by the name that OPA is given; names are in
 * the module's abort messages, so they must be the same on every machine. Files that are in the process's folder already are not written.
 * Throws RULE_INVALID, OPA_UNAVAILABLE.
 */
export async function buildWasm(
  opa: OpaProcess,
  files: ReadonlyMap<string, ModuleFile>,
  rules: readonly CompiledRule[],
  aggregate: string,
  maxBytes: number,
  selector?: string,
): Promise<Buffer> {
  const names = [...files.keys()].sort(compareText)
  await writeAll(opa.directory, files)
  await writeFile(join(opa.directory, '_aggregate.rego'), aggregateSource(aggregate, rules))
  const modules = [...names, '_aggregate.rego']
  if (selector !== undefined) {
    await writeFile(join(opa.directory, '_selector.rego'), selectorSource(selector, rules))
    modules.push('_selector.rego')
  }
  const entrypoints = [aggregate, ...(selector === undefined ? rules.map(({ entrypoint }) => entrypoint) : [selector])]
  const paths = new Map([...files].map(([name, file]) => [name, file.path]))
  const result = await runOpa(sizedFor(opa, files.values()), [
    'build',
    '--target=wasm',
    '--prune-unused',
    `--capabilities=${CAPABILITIES}`,
    ...entrypoints.map((entrypoint) => `--entrypoint=${entrypoint}`),
    '--output=module.tar.gz',
    ...modules,
  ])
  if (result.code !== 0) throw ruleInvalid(readOpaErrors(result.stderr || result.stdout, paths))
  const output = join(opa.directory, 'module.tar.gz')
  if ((await stat(output)).size > maxBytes) throw tooLarge(maxBytes)
  const bundle = await promisify(gunzip)(await readFile(output), { maxOutputLength: 2 * maxBytes })
  // The bundle repeats the sources.
  const wasm = readTar(bundle, names.length + 8).get('policy.wasm')
  if (wasm === undefined) throw new SignetError('OPA_UNAVAILABLE', 'opa build made no policy.wasm')
  if (wasm.length > maxBytes) throw tooLarge(maxBytes)
  return Buffer.from(wasm)
}

/** The process with a share of the memory that fits these sources, where memory is shared. */
export function sizedFor(opa: OpaProcess, files: Iterable<{ text: string }>): OpaProcess {
  if (opa.memory === undefined) return opa
  let bytes = 0
  for (const { text } of files) bytes += text.length
  return { ...opa, maxMemoryMiB: memoryForSources(bytes) }
}

const PARALLEL_WRITES = 32

export async function writeAll(directory: string, files: ReadonlyMap<string, { text: string }>): Promise<void> {
  const waiting = [...files]
  for (let at = 0; at < waiting.length; at += PARALLEL_WRITES) {
    const batch = waiting.slice(at, at + PARALLEL_WRITES)
    await Promise.all(batch.map(([name, { text }]) => writeFile(join(directory, name), text)))
  }
}

/** A generated module that puts all rules' decisions in one object, so that one call evaluates them. Rules that are off stay out. */
export function aggregateSource(aggregate: string, rules: readonly CompiledRule[]): string {
  const lines = rules
    .filter(isLive)
    .map((rule) => `decisions[${JSON.stringify(rule.id)}] := data.${dotted(rule.entrypoint)}`)
  return moduleSource(aggregate, lines, 'decisions := {}')
}

/** A generated module that evaluates the rule that `input.signet_only` names. */
function selectorSource(selector: string, rules: readonly CompiledRule[]): string {
  const lines = rules.map(({ id, entrypoint }) => {
    const name = JSON.stringify(id)
    return `decision[${name}] := data.${dotted(entrypoint)} if input.signet_only == ${name}`
  })
  return moduleSource(selector, lines, 'decision := {}')
}

function moduleSource(entrypoint: string, lines: readonly string[], otherwise: string): string {
  const pack = entrypoint.split('/').slice(0, -1).join('.')
  return [`package ${pack}`, ...(lines.length > 0 ? lines : [otherwise]), ''].join('\n\n')
}

function dotted(entrypoint: string): string {
  return entrypoint.split('/').join('.')
}
