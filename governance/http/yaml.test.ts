import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { SignetError } from '#core/error/signet-error.ts'
import { parseYamlBody } from './yaml.ts'

const RULE = `# A rule.
id: own-1
name: "A: name"
conditions:
  all:
    - {fact: user.mfa_enabled, operator: equal, value: true}
    - fact: user.state
      operator: in
      value: [active, on, 012, 1e3, ~]
description: |
  Two
  lines.
`
const nested = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`
const refusal = (text: string): string => {
  try {
    parseYamlBody(text)
  } catch (error) {
    if (error instanceof SignetError) return `${error.code}: ${error.message}`
    throw error
  }
  return 'taken'
}

describe('a body in YAML', () => {
  it('is what it says in YAML 1.2', () => {
    expect(parseYamlBody(RULE)).toEqual({
      id: 'own-1',
      name: 'A: name',
      conditions: {
        all: [
          { fact: 'user.mfa_enabled', operator: 'equal', value: true },
          { fact: 'user.state', operator: 'in', value: ['active', 'on', 12, 1000, null] },
        ],
      },
      description: 'Two\nlines.\n',
    })
    expect(parseYamlBody('---\n{"a": [1]}\n...\n')).toEqual({ a: [1] })
    expect(parseYamlBody('1: a\ntrue: b\n')).toEqual({ 1: 'a', true: 'b' })
    expect(parseYamlBody(nested(32))).toBeInstanceOf(Array)
  })
  it('is whatever JSON is', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), (value) => {
        fc.pre(value !== null && !JSON.stringify(value).includes('__proto__'))
        // -0 is written as 0 by JSON, and as -0 by YAML.
        const same = JSON.parse(JSON.stringify(value)) as unknown
        expect(parseYamlBody(JSON.stringify(same))).toEqual(same)
        expect(parseYamlBody(stringify(same, { aliasDuplicateObjects: false }))).toEqual(same)
      }),
    )
  })
  it('that is anything is taken or refused in our words, which hold nothing of it', () => {
    const piece = fc.constantFrom(
      'a',
      ': ',
      '- ',
      '\n',
      '  ',
      '[',
      ']',
      '{',
      '}',
      ',',
      '&b ',
      '*b',
      '!t ',
      '"',
      "'",
      '|',
      '>',
      '%',
      '---\n',
      '?',
      '#',
      '\t',
      '\\',
      'SECRET',
    )
    fc.assert(
      fc.property(
        fc.array(piece, { maxLength: 60 }).map((parts) => parts.join('')),
        (text) => {
          const said = refusal(text)
          expect(said).toMatch(/^(taken|(REQUEST_INVALID|PAYLOAD_TOO_LARGE): )/)
          expect(said).not.toContain('SECRET')
        },
      ),
      { numRuns: 2_000 },
    )
  })
  it.each([
    { what: 'an indentation', text: 'a:\n  b: 1\n c: 2\n', want: /at line 3, column 1 is no YAML: / },
    { what: 'a bracket that is open', text: 'a: [1, 2\nb: 3\n', want: /at line \d+, column \d+ is no YAML: / },
    { what: 'a text with a colon', text: 'name: a: b\n', want: /at line 1, column \d+ is no YAML: / },
    { what: 'a tab', text: 'a:\n\tb: 1\n', want: /at line 2, column 1 is no YAML: / },
    {
      what: 'a quote that is open',
      text: 'a: "b\n',
      want: /at line \d+, column \d+ is no YAML: a character is missing/,
    },
    {
      what: 'a member that is there twice',
      text: 'a: 1\nb: 2\na: 3\n',
      want: /at line 3, column 1 has a member that is there already/,
    },
    { what: 'an alias', text: 'a: &x 1\nb: *x\n', want: /at line 1, column \d+ has an anchor/ },
    { what: 'an alias of nothing', text: 'b: *x\n', want: /line 1, column 4/ },
    {
      what: 'a tag of its own',
      text: 'a: !secret b\n',
      want: /at line 1, column \d+ is no YAML: a tag is not known here/,
    },
    {
      what: 'binary data',
      text: 'a: !!binary aGk=\n',
      want: /at line 1, column 13 has a value that JSON does not have/,
    },
    {
      what: 'a number that is none',
      text: 'a: .nan\n',
      want: /at line 1, column 4 has a value that JSON does not have/,
    },
    {
      what: 'a number without end',
      text: 'a: [-.inf]\n',
      want: /at line 1, column 5 has a value that JSON does not have/,
    },
    { what: 'a name that is a list', text: '[a]: b\n', want: /line 1, column 1/ },
    { what: 'a prototype', text: '__proto__: {a: 1}\n', want: /whose name is no name/ },
    {
      what: 'a second document',
      text: 'a: 1\n---\nb: 2\n',
      want: /at line \d, column \d begins a second document; a call takes one/,
    },
    { what: 'a second document that is empty', text: 'a: 1\n---\n', want: /begins a second document/ },
    { what: 'another YAML', text: '%YAML 1.1\n---\na: yes\n', want: /another YAML than 1\.2/ },
    { what: 'nothing', text: '', want: /is empty/ },
    { what: 'a comment alone', text: '# a\n', want: /is empty/ },
    { what: 'a null', text: '~', want: /is empty/ },
    { what: 'brackets too deep', text: nested(33), want: /more than 32 levels/ },
    { what: 'brackets without end', text: '['.repeat(30_000), want: /more than 32 levels/ },
    {
      what: 'lists too deep',
      text: `${'- '.repeat(40)}a`,
      want: /at line 1, column \d+ is nested more than 32 levels deep/,
    },
    { what: 'lists without end', text: '- '.repeat(1_900), want: /nested/ },
    { what: 'too many words', text: '- a\n'.repeat(4_000), want: /more than 4000 tokens of YAML; send JSON/ },
    { what: 'too many bytes', text: `a: ${'b'.repeat(33_000)}`, want: /^PAYLOAD_TOO_LARGE/ },
    { what: 'aliases that grow', text: 'a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n', want: /anchor/ },
  ])('with $what is refused, by its place', ({ text, want }) => {
    expect(refusal(text)).toMatch(want)
  })
})
