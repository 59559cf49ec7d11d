import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { copyFolders, importedPackages, withDependencies } from './prune-modules.ts'

const ROOT = path.resolve(import.meta.dirname, '../..')
let root: string
beforeEach(() => (root = mkdtempSync(path.join(tmpdir(), 'signet-prune-'))))
afterEach(() => rmSync(root, { recursive: true, force: true }))

function write(files: Readonly<Record<string, string | object>>): void {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(root, name)), { recursive: true })
    writeFileSync(path.join(root, name), typeof content === 'string' ? content : JSON.stringify(content))
  }
}

describe('importedPackages', () => {
  it('follows imports of every kind, and nothing that only looks like one', () => {
    write({
      'package.json': { dependencies: { a: '1', '@s/b': '1', c: '1', d: '1', e: '1', unused: '1', 'text-only': '1' } },
      'proxy/main.ts': `import a from 'a'\nimport {\n  b,\n} from '@s/b/deep/file.js'\nimport './side.ts'\nconst later = () => import('#core/late.ts')\n`,
      'proxy/side.ts': `import type { C } from 'c'\nexport { d } from 'd'\nimport { readFile } from 'node:fs'\nconst worker = new URL('thread.ts', import.meta.url)\n`,
      'proxy/thread.ts': `import 'e'\nconst text = "it came from 'nowhere'"\n`,
      'core/late.ts': `import { x } from '../proxy/side.ts'\n`,
      'ledger/main.ts': `import 'unused'\n`,
    })
    expect([...importedPackages(root, 'proxy/main.ts')].sort()).toEqual(['@s/b', 'a', 'c', 'd', 'e'])
  })

  it('does not pass over a file that is not there', () => {
    write({ 'package.json': {}, 'main.ts': `import './gone.ts'\n` })
    expect(() => importedPackages(root, 'main.ts')).toThrow('gone.ts')
  })
})

describe('withDependencies', () => {
  it('takes what Node would find: nested before outer, optional ones and peers where they are there', () => {
    write({
      'node_modules/a/package.json': { dependencies: { b: '2', c: '1' }, optionalDependencies: { native: '1' } },
      'node_modules/a/node_modules/b/package.json': { dependencies: { d: '1' } },
      'node_modules/a/node_modules/b/index.js': 'two',
      'node_modules/b/package.json': {},
      'node_modules/c/package.json': { peerDependencies: { a: '1', 'not-there': '1' } },
      'node_modules/d/package.json': { dependencies: { b: '1' } },
      'node_modules/other/package.json': {},
    })
    const modules = path.join(root, 'node_modules')
    const folders = withDependencies(modules, ['a'])
    expect([...folders].sort()).toEqual(['a', 'a/node_modules/b', 'b', 'c', 'd'])
    copyFolders(modules, folders, path.join(root, 'out'))
    expect(readdirSync(path.join(root, 'out')).sort()).toEqual(['a', 'b', 'c', 'd'])
    expect(readdirSync(path.join(root, 'out/a/node_modules/b')).sort()).toEqual(['index.js', 'package.json'])
  })

  it('refuses to make a tree with a hole', () => {
    write({ 'node_modules/a/package.json': { dependencies: { gone: '1' } } })
    expect(() => withDependencies(path.join(root, 'node_modules'), ['a'])).toThrow('gone, which a needs')
    expect(() => withDependencies(path.join(root, 'node_modules'), ['gone'])).toThrow('gone, which the tree needs')
    expect(withDependencies(path.join(root, 'node_modules'), ['gone'], ['gone'])).toEqual(new Set())
  })
})

describe('a process of this tree with its packages alone', () => {
  it.each([
    { name: 'proxy', folders: ['proxy', 'engine'], entry: 'proxy/main.ts', not: ['pg', 'yaml', '@peculiar/x509'] },
    { name: 'ledger', folders: ['ledger', 'engine'], entry: 'ledger/main.ts', not: ['@opentelemetry/sdk-trace'] },
    { name: 'operator', folders: ['operator', 'engine', 'policies'], entry: 'operator/main.ts', not: ['pg'] },
    {
      name: 'redirect',
      folders: ['operator'],
      entry: 'operator/redirect/main.ts',
      not: ['fastify', 'pino', 'undici'],
      code: 1,
    },
  ])('$name: every module that it may load is found', async ({ folders, entry, not, code = 78 }) => {
    const packages = withDependencies(path.join(ROOT, 'node_modules'), importedPackages(ROOT, entry))
    for (const name of not) expect([...packages]).not.toContain(name)
    copyFolders(path.join(ROOT, 'node_modules'), packages, path.join(root, 'node_modules'))
    for (const name of ['core', 'runtime', 'package.json', ...folders])
      symlinkSync(path.join(ROOT, name), path.join(root, name))
    // Without its configuration it says so, which it can only when everything that it begins with is loaded.
    const args = ['--preserve-symlinks', '--preserve-symlinks-main', entry]
    const ended = await promisify(execFile)(process.execPath, args, { cwd: root, env: {} }).then(
      () => ({ code: 0, stderr: '' }),
      (error: { code: number; stderr: string }) => error,
    )
    expect([ended.code, ended.stderr]).toEqual([code, expect.stringContaining('SIGNET_')])
    expect(ended.stderr).not.toContain('ERR_MODULE_NOT_FOUND')
  })
})
