import { describe, expect, test } from 'vitest'
import { compileBlocks } from './blocks.ts'

const ENDS = '2027-01-01T00:00:00Z'
const NOW = Date.parse('2026-06-01T00:00:00Z')

describe('compileBlocks', () => {
  const table = compileBlocks([
    { id: 'b-1', kind: 'agent', value: 'rogue', expires_at: ENDS },
    { id: 'b-2', kind: 'agent', value: 'demo/agent', expires_at: ENDS },
    { id: 'b-3', kind: 'agent', value: 'anonymous', expires_at: ENDS },
    { id: 'b-4', kind: 'route', value: '/users/{id}', method: 'GET', expires_at: ENDS },
    { id: 'b-5', kind: 'route', value: '/old/**', expires_at: ENDS },
  ])
  const query = { method: 'GET', path: '/', caller: 'ann', producerId: 'demo/api', nowMs: NOW }

  test.each([
    { name: 'somebody else', change: {}, want: [] },
    { name: 'the caller', change: { caller: 'rogue' }, want: ['b-1'] },
    { name: 'the workload that answers', change: { producerId: 'demo/agent' }, want: ['b-2'] },
    {
      name: 'a workload that asks itself, once',
      change: { caller: 'demo/agent', producerId: 'demo/agent' },
      want: ['b-2'],
    },
    { name: 'a caller in another case', change: { caller: 'Rogue' }, want: [] },
    { name: 'nobody in particular', change: { caller: 'anonymous' }, want: [] },
    { name: 'a route', change: { path: '/users/7' }, want: ['b-4'] },
    { name: 'a route by HEAD', change: { path: '/users/7', method: 'HEAD' }, want: ['b-4'] },
    { name: 'a route by another method', change: { path: '/users/7', method: 'POST' }, want: [] },
    { name: 'a route spelled otherwise', change: { path: '//%75sers/x/../7;v=1' }, want: ['b-4'] },
    { name: 'a route of any method', change: { path: '/old/a/b', method: 'DELETE' }, want: ['b-5'] },
    { name: 'both', change: { caller: 'rogue', path: '/users/7' }, want: ['b-1', 'b-4'] },
    { name: 'at its end', change: { caller: 'rogue', nowMs: Date.parse(ENDS) }, want: [] },
  ])('$name', ({ change, want }) => {
    expect(table.match({ ...query, ...change }).map(({ id }) => id)).toEqual(want)
  })

  test('says whether callers differ by it', () => {
    expect(table.readsCaller).toBe(true)
    expect(compileBlocks([{ id: 'b', kind: 'route', value: '/x', expires_at: ENDS }]).readsCaller).toBe(false)
    expect(compileBlocks([]).isEmpty).toBe(true)
  })
})
