import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { PAGES, TOOL_VARIABLES } from '#tools/docs/pages.ts'

const ROOT = path.resolve(import.meta.dirname, '../..')
const read = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8')

describe('reference pages made from the code', () => {
  it.each(Object.entries(PAGES))('%s is up to date (else: node tools/docs/write-pages.ts)', (page, render) => {
    expect(read(page)).toBe(render())
  })

  it('the configuration page has every SIGNET_ variable that the code reads', () => {
    const documented = new Set(read('docs/reference/config.md').match(/SIGNET_[A-Z0-9_]+/g))
    const sources = globSync(['{core,engine,runtime,proxy,ledger,cli,tools}/**/*.{ts,mjs}'], { cwd: ROOT }).filter(
      (file) => !/\.(test|fixture|bench)\.ts$|(^|\/)fixture\.ts$/.test(file),
    )
    const read_ = sources.flatMap((file) =>
      [...read(file).matchAll(/\benv(?:\.|\[['"])(SIGNET_[A-Z0-9_]+)/g)].map(([, name]) => `${name} (${file})`),
    )
    expect(read_.filter((entry) => !documented.has(entry.split(' ')[0] ?? ''))).toEqual([])
  })

  it('names no tool variable that nothing reads', () => {
    const all = globSync(['tools/**/*.{ts,mjs}', 'test/**/*.ts'], { cwd: ROOT })
      .filter((file) => !file.startsWith('tools/docs/') && !file.startsWith('test/docs/'))
      .map(read)
      .join('\n')
    expect(TOOL_VARIABLES.filter(([name]) => !all.includes(name))).toEqual([])
  })
})

describe('links', () => {
  const pages = globSync(['*.md', 'docs/**/*.md'], { cwd: ROOT })

  it.each(pages)('%s points only to files that are there', (page) => {
    const targets = [...read(page).matchAll(/\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)/g)].map(
      ([, target = '']) => target,
    )
    const missing = targets.filter(
      (target) => globSync(path.join(path.dirname(page), target), { cwd: ROOT }).length === 0,
    )
    expect(missing).toEqual([])
  })
})
