import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { beforeAll, expect, it } from 'vitest'
import { ensureOpa } from '#tools/opa/build.ts'
import { compilePack, packDirectory } from '#tools/opa/build-standard-pack.ts'

const FOLDER = fileURLToPath(new URL('events', import.meta.url))
const DOCS = fileURLToPath(new URL('../docs/violations.md', import.meta.url))

let opa: string
beforeAll(async () => {
  opa = await ensureOpa()
}, 600_000)

it('the compiled rules of events are what their sources compile to; else run: node tools/opa/build-standard-pack.ts', async () => {
  const files = await compilePack('events', opa)
  expect((await readdir(packDirectory('events'))).sort()).toEqual([...files.keys()].sort())
  for (const [name, want] of files) {
    const found = await readFile(join(packDirectory('events'), name))
    expect(found.equals(want), `policies/dist/events/${name} differs`).toBe(true)
  }
}, 120_000)

it('their own tests pass in OPA', async () => {
  const { stdout } = await promisify(execFile)(opa, ['test', FOLDER, '--format=json'])
  const results = JSON.parse(stdout) as { name: string; fail?: boolean }[]
  expect(results.length).toBeGreaterThan(10)
  expect(results.filter(({ fail }) => fail === true)).toEqual([])
}, 120_000)

it('docs/violations.md lists them with their severities', async () => {
  const module = JSON.parse(await readFile(join(packDirectory('events'), 'module.json'), 'utf8')) as {
    rules: { id: string; severity: string }[]
  }
  const listed = [
    ...(await readFile(DOCS, 'utf8')).matchAll(/^\| `([a-z_]+)` \|.*\| (critical|high|medium|low) \|$/gm),
  ].map(([, rule, severity]) => `${rule} ${severity}`)
  expect(listed.sort()).toEqual(module.rules.map(({ id, severity }) => `${id.replaceAll('-', '_')} ${severity}`).sort())
})
