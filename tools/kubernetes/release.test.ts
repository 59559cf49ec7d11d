import { readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { pinImages } from './pin-images.ts'

const ROOT = path.resolve(import.meta.dirname, '../..')
const read = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8')
const WORKFLOWS = ['.github/workflows/ci.yml', '.github/workflows/release.yml']
type Job = {
  permissions?: Record<string, string>
  strategy?: { matrix: { target: string[] } }
  steps: { uses?: string; run?: string }[]
}
const workflow = (file: string): { permissions: object; jobs: Record<string, Job> } => parse(read(file)) as never

describe('workflows', () => {
  it.each(WORKFLOWS)('%s: reads only, unless a job says more; actions of others by commit', (file) => {
    const { permissions, jobs } = workflow(file)
    expect(permissions).toEqual({ contents: 'read' })
    const uses = Object.values(jobs).flatMap(({ steps }) => steps.flatMap((step) => step.uses ?? []))
    expect(uses.length).toBeGreaterThan(1)
    for (const use of uses) {
      const [name = '', version = ''] = use.split('@')
      if (!name.startsWith('actions/')) expect(version, use).toMatch(/^[0-9a-f]{40}$/)
      expect(version, use).not.toMatch(/^(main|master|latest)$/)
    }
  })

  it.each(WORKFLOWS)('%s: no expression that somebody else could write is put into a script', (file) => {
    const scripts = Object.values(workflow(file).jobs).flatMap(({ steps }) => steps.flatMap((step) => step.run ?? []))
    const expressions = scripts.flatMap((script) => script.match(/\$\{\{[^}]*\}\}/g) ?? [])
    expect(expressions.filter((one) => !/^\$\{\{ matrix\.\w+ \}\}$/.test(one))).toEqual([])
  })

  it('the release builds every target of the Dockerfile that is an image, and only the default arguments of it', () => {
    const dockerfile = read('Dockerfile')
    const images = ['proxy', 'ledger', 'operator', 'governance', 'redirect', 'postgres-trial']
    const release = read('.github/workflows/release.yml')
    expect(workflow('.github/workflows/release.yml').jobs['images']?.strategy?.matrix.target).toEqual(images)
    for (const image of images) expect(dockerfile).toMatch(new RegExp(`^FROM \\S+ AS ${image}$`, 'm'))
    for (const [, argument] of release.matchAll(/--build-arg "(\w+)=/g))
      expect(dockerfile).toContain(`\nARG ${argument}=`)
    const external = [...dockerfile.matchAll(/^ARG (\w+_IMAGE)=/gm)].map(([, name]) => name)
    for (const argument of external) expect(release).toContain(`--build-arg "${argument}=`)
  })
})

describe('pinImages', () => {
  const values = read('charts/signet/values.yaml')
  const digest = `sha256:${'a'.repeat(64)}`

  it('writes digests and leaves all else as it was, comments too', () => {
    const pinned = pinImages(values, [`proxy=${digest}`, `postgres-trial=${digest}`])
    const changed = pinned.split('\n').filter((line) => !values.split('\n').includes(line))
    expect(changed).toEqual([`    proxy: "${digest}"`, `    postgresTrial: "${digest}"`])
    expect(pinned.split('\n')).toHaveLength(values.split('\n').length)
  })

  it.each([
    [`prox=${digest}`, 'no image prox'],
    ['proxy=latest', 'is no digest'],
    ['proxy', 'is no digest'],
  ])('refuses %s', (pin, want) => {
    expect(() => pinImages(values, [pin])).toThrow(want)
  })
})
