import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { dependentsOf } from './dependents.ts'

const root = mkdtempSync(path.join(tmpdir(), 'signet-dependents-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))

const FILES: Record<string, string> = {
  'tools/target.ts': 'export const x = 1',
  'a/direct.test.ts': "import { x } from '#tools/target.ts'",
  'a/through.test.ts': "import { y } from './middle.ts'",
  'a/middle.ts': "export { x as y } from '../tools/target.ts'\nimport './through.test.ts'",
  'a/lazy.test.ts': "const { x } = await import('#tools/target.ts')",
  'a/free.test.ts': "import { it } from 'vitest'\nimport './other.ts'",
  'a/other.ts': "import './free.test.ts'",
}

it('finds direct, indirect and lazy imports, also across a cycle', () => {
  for (const [name, text] of Object.entries(FILES)) {
    mkdirSync(path.dirname(path.join(root, name)), { recursive: true })
    writeFileSync(path.join(root, name), text)
  }
  expect(dependentsOf('tools/target.ts', ['a/**/*.test.ts'], root)).toEqual([
    'a/direct.test.ts',
    'a/lazy.test.ts',
    'a/through.test.ts',
  ])
})
