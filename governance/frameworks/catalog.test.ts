import path from 'node:path'
import { existsSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { readStandardPack } from '#engine/bundle/standard.ts'
import { automationOf, parseCatalog, readCatalogs } from './catalog.ts'

const ROOT = path.resolve(import.meta.dirname, '../..')

describe('the shipped catalogs', () => {
  const catalogs = readCatalogs(path.join(ROOT, 'policies/catalogs'))

  it('are eight', async () => {
    expect([...(await catalogs).keys()]).toEqual([
      'eu_ai_act',
      'fedramp',
      'gdpr',
      'hipaa',
      'iso27001',
      'iso42001',
      'soc2',
      'sox',
    ])
  })
  it.each(['soc2', 'gdpr', 'hipaa'])('%s has twenty controls or more', async (id) => {
    expect((await catalogs).get(id)!.controls.length).toBeGreaterThanOrEqual(20)
  })
  it('name rules that are shipped, and pages that are there', async () => {
    const shipped = (await readStandardPack(path.join(ROOT, 'policies/dist/standard'))).flatMap(({ module }) =>
      module.rules.map(({ id }) => id),
    )
    for (const { id, controls } of (await catalogs).values())
      for (const { id: control, rules = [], how_to } of controls) {
        expect([id, control, rules.filter((rule) => !shipped.includes(rule))]).toEqual([id, control, []])
        if (how_to !== undefined)
          expect([id, control, existsSync(path.join(ROOT, how_to))]).toEqual([id, control, true])
      }
  })
  it('say how much of each is looked at by itself', async () => {
    for (const catalog of (await catalogs).values()) {
      const { full, partial, none, status } = automationOf(catalog)
      expect(full + partial + none).toBe(catalog.controls.length)
      expect(status).toBe('partial')
    }
  })
})

const control = '{id: A, title: a, text: a}'
const head = 'id: x\ntitle: X\nsource: s\ncodes: [X]\n'
it.each([
  { name: 'no YAML', text: '{', file: 'x.yaml', want: 'x.yaml cannot be used' },
  { name: 'another form', text: 'id: x', file: 'x.yaml', want: 'must have required properties' },
  { name: 'no controls', text: `${head}controls: []`, file: 'x.yaml', want: '/controls' },
  { name: 'the name of another file', text: `${head}controls: [${control}]`, file: 'y.yaml', want: 'its id is x' },
  {
    name: 'a control twice',
    text: `${head}controls: [${control}, ${control}]`,
    file: 'x.yaml',
    want: 'control A is there twice',
  },
  {
    name: 'a check that there is not',
    text: `${head}controls: [{id: A, title: a, text: a, check: magic}]`,
    file: 'x.yaml',
    want: '/controls/0/check',
  },
  {
    name: 'full automation without a check',
    text: `${head}controls: [{id: A, title: a, text: a, automation: full}]`,
    file: 'x.yaml',
    want: 'without a check',
  },
  { name: 'an alias', text: `${head}controls: [&a ${control}, *a]`, file: 'x.yaml', want: 'cannot be used' },
])('refuses $name', ({ text, file, want }) => {
  expect(() => parseCatalog(text, file)).toThrow(
    expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringContaining(want) }),
  )
})
