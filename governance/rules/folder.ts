import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { Compile } from 'typebox/compile'
import { parseAllDocuments } from 'yaml'
import { firstFault } from '#core/error/schema-fault.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { checkRuleObject } from '#core/rule/check.ts'
import { NewRule, ruleObject, ruleOf, type Rule } from './rule.ts'

const MAX_FILES = 1_000
const MAX_BYTES = 1 << 20
const checker = Compile(NewRule)

/**
 * The rules of a folder and those below it: `*.yaml`, `*.yml` and `*.json`, each a rule, a list of rules, or several YAML documents.
 * @throws SignetError CONFIG_INVALID naming the file, the rule and what is allowed
 */
export async function readRulesFolder(folder: string): Promise<Rule[]> {
  const names = (await readdir(folder, { recursive: true })).filter((name) => /\.(ya?ml|json)$/.test(name)).sort()
  if (names.length > MAX_FILES)
    throw new SignetError('CONFIG_INVALID', `${folder} has more than ${MAX_FILES} rule files`)
  const rules = new Map<string, { rule: Rule; file: string }>()
  for (const name of names) {
    for (const rule of rulesOf(await readFile(path.join(folder, name), 'utf8'), name)) {
      const other = rules.get(rule.id)
      if (other !== undefined)
        throw new SignetError('CONFIG_INVALID', `the rule ${rule.id} is in ${other.file} and in ${name}`)
      rules.set(rule.id, { rule, file: name })
    }
  }
  return [...rules.values()].map(({ rule }) => rule)
}

/** @throws SignetError CONFIG_INVALID */
export function rulesOf(text: string, file: string): Rule[] {
  if (text.length > MAX_BYTES) throw new SignetError('CONFIG_INVALID', `${file} is larger than ${MAX_BYTES} bytes`)
  return parseAllDocuments(text).flatMap((document) => {
    const [error] = document.errors
    if (error !== undefined) throw new SignetError('CONFIG_INVALID', `${file}: ${error.message.split('\n')[0]}`)
    const value: unknown = document.toJS({ maxAliasCount: 0 })
    if (value === null) return []
    return (Array.isArray(value) ? value : [value]).map((one) => checked(one, file))
  })
}

function checked(value: unknown, file: string): Rule {
  if (!checker.Check(value)) {
    const { path: at, allowed } = firstFault(checker.Errors(value))
    throw new SignetError('CONFIG_INVALID', `${file} holds what is no rule: at ${at}: ${allowed}`)
  }
  const rule = ruleOf(value)
  const [fault] = checkRuleObject(ruleObject(rule))
  if (fault !== undefined)
    throw new SignetError('CONFIG_INVALID', `${file}, rule ${rule.id}: ${fault.path}: ${fault.message}`)
  return rule
}
