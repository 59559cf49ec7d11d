import { readdir, readFile, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { Compile } from 'typebox/compile'
import { parseAllDocuments } from 'yaml'
import { GROUP, type RuleObject } from '#core/rule/model.ts'
import { SampleFile, type RuleSample } from '#core/rule/sample.ts'
import { UsageError } from '../usage.ts'

export interface LoadedRule {
  rule: RuleObject
  file: string
}
export interface LoadedSample {
  sample: RuleSample
  /** Name of the rule that it is of. */
  rule: string
  file: string
}

const MAX_FILE_BYTES = 4 << 20
const YAML = /\.ya?ml$/
const SAMPLES = /\.samples\.ya?ml$/
const sampleChecker = Compile(SampleFile)

/**
 * ComplianceRules and samples in these files and folders (searched to the bottom, hidden ones and `node_modules` left out). YAML is read as
 * Kubernetes reads it (1.1: a bare `off` is false); objects of other kinds are passed over. Throws UsageError.
 */
export async function loadRules(paths: readonly string[]): Promise<{ rules: LoadedRule[]; samples: LoadedSample[] }> {
  const files = new Set<string>()
  for (const path of paths) for (const file of await filesOf(path)) files.add(file)
  const rules: LoadedRule[] = []
  for (const file of files) if (!SAMPLES.test(file)) rules.push(...(await readRules(file)))
  const names = new Map<string, string>()
  for (const { rule, file } of rules) {
    const other = names.get(rule.name)
    if (other !== undefined) throw new UsageError(`the rule ${rule.name} is in ${other} and in ${file}`)
    names.set(rule.name, file)
  }
  const samples: LoadedSample[] = []
  for (const file of files) if (SAMPLES.test(file)) samples.push(...(await readSamples(file, rules)))
  return { rules, samples }
}

async function filesOf(path: string): Promise<string[]> {
  const info = await stat(path).catch(() => undefined)
  if (info === undefined) throw new UsageError(`there is no file or folder ${path}`)
  if (!info.isDirectory()) return [path]
  const names = (await readdir(path, { recursive: true })).map((name) => name.replaceAll('\\', '/')).sort()
  const isHidden = (name: string): boolean =>
    name.split('/').some((part) => part.startsWith('.') || part === 'node_modules')
  return names.filter((name) => YAML.test(name) && !isHidden(name)).map((name) => join(path, name))
}

async function readDocuments(file: string): Promise<unknown[]> {
  const bytes = await readFile(file).catch((cause: unknown) => {
    throw new UsageError(`${file} cannot be read: ${(cause as Error).message}`)
  })
  if (bytes.length > MAX_FILE_BYTES) throw new UsageError(`${file} is larger than ${MAX_FILE_BYTES >> 20} MiB`)
  const documents = parseAllDocuments(bytes.toString('utf8'), { version: '1.1', uniqueKeys: true })
  return [...documents].map((document) => {
    const [fault] = document.errors
    if (fault !== undefined) throw new UsageError(`${file} is not YAML: ${fault.message.split('\n', 1)[0]}`)
    return document.toJS() as unknown
  })
}

async function readRules(file: string): Promise<LoadedRule[]> {
  const rules: LoadedRule[] = []
  for (const document of await readDocuments(file)) {
    const items = isMember(document, 'items') && Array.isArray(document.items) ? document.items : [document]
    for (const item of items as unknown[]) {
      if (!isMember(item, 'kind') || item.kind !== 'ComplianceRule') continue
      if (!isMember(item, 'apiVersion') || !String(item.apiVersion).startsWith(`${GROUP}/`)) continue
      const metadata = isMember(item, 'metadata') ? item.metadata : undefined
      const name = isMember(metadata, 'name') ? metadata.name : undefined
      if (typeof name !== 'string') throw new UsageError(`${file}: a ComplianceRule has no metadata.name`)
      rules.push({ rule: { name, spec: (isMember(item, 'spec') ? item.spec : undefined) as RuleObject['spec'] }, file })
    }
  }
  return rules
}

async function readSamples(file: string, rules: readonly LoadedRule[]): Promise<LoadedSample[]> {
  const samples: LoadedSample[] = []
  for (const document of await readDocuments(file)) {
    if (!sampleChecker.Check(document)) {
      const error = [...sampleChecker.Errors(document)][0]
      const path = (error?.instancePath ?? '').slice(1).replaceAll('/', '.')
      throw new UsageError(`${file}: ${path || 'the file'} ${error?.message ?? 'is no list of samples'}`)
    }
    for (const sample of document.samples) {
      samples.push({ sample, file, rule: sample.rule ?? ruleBeside(file, rules) })
    }
  }
  return samples
}

/** `no-bulk.samples.yaml` is of the one rule in `no-bulk.yaml` beside it, or of the rule `no-bulk`. */
function ruleBeside(file: string, rules: readonly LoadedRule[]): string {
  const stem = basename(file).replace(SAMPLES, '')
  const beside = rules.filter(
    (each) => dirname(each.file) === dirname(file) && basename(each.file).replace(YAML, '') === stem,
  )
  return beside.length === 1 ? beside[0]!.rule.name : stem
}

function isMember<K extends string>(value: unknown, name: K): value is Record<K, unknown> {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
}
