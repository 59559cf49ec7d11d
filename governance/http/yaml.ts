import type { FastifyInstance } from 'fastify'
import {
  CST,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  parseAllDocuments,
  type ParsedNode,
  type Document,
} from 'yaml'
import { SignetError } from '#core/error/signet-error.ts'

/** RFC 9512. */
export const YAML_MEDIA_TYPE = 'application/yaml'

const MAX_BYTES = 32 * 1024
/** Marks, texts, spaces and ends of lines: what the parser's time grows with. */
const MAX_TOKENS = 4_000
const MAX_DEPTH = 32

/** Lets calls of this scope take YAML beside JSON, as the same values, in the same schema. */
export function takeYaml(scope: FastifyInstance): void {
  const options = { parseAs: 'string', bodyLimit: MAX_BYTES } as const
  scope.addContentTypeParser(YAML_MEDIA_TYPE, options, (_request, text: unknown, done) => {
    try {
      done(null, parseYamlBody(String(text)))
    } catch (error) {
      done(error as Error)
    }
  })
}

/**
 * The one document of a body, as JSON would have it: YAML 1.2 in its core schema, without aliases, tags of one's own, members that are there twice, and
 * numbers that JSON does not have.
 * @throws SignetError REQUEST_INVALID naming line and column, never what stands there
 */
export function parseYamlBody(text: string): unknown {
  requireFew(text)
  const lines = new LineCounter()
  let documents: Document.Parsed[]
  try {
    const parsed = parseAllDocuments(text, {
      lineCounter: lines,
      prettyErrors: false,
      schema: 'core',
      version: '1.2',
      merge: false,
      stringKeys: true,
      // Looked for below: the library compares each with each.
      uniqueKeys: false,
      logLevel: 'silent',
    })
    documents = 'empty' in parsed ? [] : parsed
  } catch {
    throw refused('is nested too deeply')
  }
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset)
    return `at line ${Math.max(1, line)}, column ${Math.max(1, col)} `
  }
  const [document, second] = documents
  if (document === undefined) throw refused('is empty')
  const fault = [...document.errors, ...document.warnings][0]
  if (fault !== undefined) throw refused(`${at(fault.pos[0])}is no YAML: ${WORDS[fault.code] ?? 'it cannot be read'}`)
  if (second !== undefined) throw refused(`${at(second.range[0])}begins a second document; a call takes one`)
  if (document.directives.yaml.version !== '1.2') throw refused(`says that it is another YAML than 1.2`)
  const value = valueOf(document.contents, at, 0)
  if (value === null) throw refused('is empty')
  return value
}

/** What the library's codes say; its messages may hold what was sent. */
const WORDS: Readonly<Record<string, string>> = {
  ALIAS_PROPS: 'an alias has no properties',
  BAD_ALIAS: 'an alias is not taken here',
  BAD_DIRECTIVE: 'a directive is wrong',
  BAD_DQ_ESCAPE: 'an escape in double quotes is wrong',
  BAD_INDENT: 'the indentation is wrong',
  BAD_PROP_ORDER: 'a tag or an anchor is in the wrong place',
  BAD_SCALAR_START: 'a text cannot begin so without quotes',
  BLOCK_AS_IMPLICIT_KEY: 'a mapping cannot stand there; is a text with a colon without quotes?',
  BLOCK_IN_FLOW: 'a block cannot stand inside of brackets',
  KEY_OVER_1024_CHARS: 'the name of a member is too long',
  MISSING_CHAR: 'a character is missing, a quote, a colon, a comma or a bracket',
  MULTILINE_IMPLICIT_KEY: 'the name of a member goes over several lines',
  MULTIPLE_ANCHORS: 'there is more than one anchor',
  MULTIPLE_DOCS: 'there is more than one document',
  MULTIPLE_TAGS: 'there is more than one tag',
  NON_STRING_KEY: 'the name of a member is no text',
  RESOURCE_EXHAUSTION: 'it is nested too deeply',
  TAB_AS_INDENT: 'a tab indents; spaces do',
  TAG_RESOLVE_FAILED: 'a tag is not known here',
  UNEXPECTED_TOKEN: 'something stands where it cannot',
}

/** Before anything is built: the parser takes its time from these two. */
function requireFew(text: string): void {
  if (Buffer.byteLength(text) > MAX_BYTES)
    throw new SignetError('PAYLOAD_TOO_LARGE', `YAML of more than ${MAX_BYTES} bytes is not taken; send JSON`)
  let tokens = 0
  let depth = 0
  for (const token of new Lexer().lex(text)) {
    const type = CST.tokenType(token)
    if (type === 'flow-map-start' || type === 'flow-seq-start') depth += 1
    if (type === 'flow-map-end' || type === 'flow-seq-end') depth -= 1
    if (depth > MAX_DEPTH) throw refused(`is nested more than ${MAX_DEPTH} levels deep`)
    if (++tokens > MAX_TOKENS) throw refused(`has more than ${MAX_TOKENS} tokens of YAML; send JSON`)
  }
}

function valueOf(node: ParsedNode | null, at: (offset: number) => string, depth: number): unknown {
  if (node === null) return null
  const where = at(node.range[0])
  if (depth > MAX_DEPTH) throw refused(`${where}is nested more than ${MAX_DEPTH} levels deep`)
  if (isAlias(node)) throw refused(`${where}has an alias, which is not taken here`)
  if (node.anchor !== undefined) throw refused(`${where}has an anchor, which is not taken here`)
  if (isSeq(node)) return node.items.map((item) => valueOf(item as ParsedNode | null, at, depth + 1))
  if (isMap(node)) {
    const names = new Map<string, unknown>()
    for (const { key, value } of node.items) {
      const name = isScalar(key) ? key.value : undefined
      if (typeof name !== 'string' || name === '__proto__') throw refused(`${where}has a member whose name is no name`)
      if (names.has(name)) throw refused(`${at(key.range[0])}has a member that is there already`)
      names.set(name, valueOf(value, at, depth + 1))
    }
    return Object.fromEntries(names)
  }
  const { value } = node
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value
  if (typeof value === 'number' && Number.isFinite(value)) return value
  throw refused(`${where}has a value that JSON does not have`)
}

function refused(why: string): SignetError {
  return new SignetError('REQUEST_INVALID', `the body ${why}`)
}
