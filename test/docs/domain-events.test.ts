import { readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, it } from 'vitest'
import { DOMAIN_EVENT_TYPES } from '#governance/domain-events/event.ts'

const PAGE = readFileSync(path.resolve(import.meta.dirname, '../../docs/domain-events.md'), 'utf8')

it('docs/domain-events.md has every type of domain event, and no other', () => {
  const types = PAGE.split(/^## Types$/m)[1] ?? ''
  const rows = [...types.matchAll(/^\| `([a-z_.]+)` \|/gm)].map(([, name = '']) => name)
  const documented = rows.flatMap((name) =>
    name.includes('.') ? [name] : ['created', 'changed', 'deleted'].map((ending) => `${name}.${ending}`),
  )
  expect(documented.toSorted()).toEqual([...DOMAIN_EVENT_TYPES].toSorted())
})
