import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { SignetError } from '#core/error/signet-error.ts'
import { runOpa, type OpaProcess } from './opa.ts'
import type { SyntaxTree } from './syntax.ts'

/** Trees are some forty times as long as their text. */
const MAX_BATCH_BYTES = 256 << 10

/**
 * The syntax trees of many modules by few processes, without locations; undefined where a text does not parse. For what was parsed
 * once with locations, or need not say where.
 */
export async function parseTexts(
  opa: OpaProcess,
  modules: readonly { text: string }[],
): Promise<(SyntaxTree | undefined)[]> {
  const trees: (SyntaxTree | undefined)[] = []
  for (let start = 0; start < modules.length;) {
    let end = start
    for (let bytes = 0; end < modules.length && (end === start || bytes < MAX_BATCH_BYTES); end += 1) {
      bytes += modules[end]!.text.length
    }
    const batch = await parseBatch(opa, modules.slice(start, end))
    for (let index = 0; index < end - start; index += 1) trees.push(batch[String(index)])
    start = end
  }
  return trees
}

async function parseBatch(
  opa: OpaProcess,
  modules: readonly { text: string }[],
): Promise<Readonly<Record<string, SyntaxTree>>> {
  const name = '_texts.json'
  await writeFile(join(opa.directory, name), JSON.stringify(modules.map(({ text }) => text)))
  const query = '{i: tree | some i, text in input; tree := rego.parse_module("module.rego", text)}'
  const result = await runOpa(opa, ['eval', '--format=json', `--input=${name}`, query])
  try {
    const { result: rows } = JSON.parse(result.stdout) as {
      result: [{ expressions: [{ value: Record<string, SyntaxTree> }] }]
    }
    return rows[0].expressions[0].value
  } catch (cause) {
    throw new SignetError('OPA_UNAVAILABLE', 'opa eval did not give the syntax trees that it was asked for', { cause })
  }
}
