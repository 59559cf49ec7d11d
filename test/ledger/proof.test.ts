import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildLines, createClient } from '#test/support/producer.ts'

let stack: LedgerStack
let ledger: string
let keys: string
const at = (name: string): string => path.join(stack.dir, name)

beforeAll(async () => {
  stack = await startLedgerStack()
  ledger = stack.ledgers[0]?.url ?? ''
  const client = createClient(ledger, stack.token('proxy'))
  const { acks } = await client.append(buildLines(randomUUID(), 1, 3))
  const eventId = acks[1]?.event_id ?? ''
  const proof = await vi.waitFor(() => client.get<Record<string, unknown>>(`/api/audit/logs/${eventId}/proof`), {
    timeout: 15_000,
    interval: 100,
  })
  const items = await client.all()
  keys = await (await fetch(`${ledger}/log/keys`)).text()
  await writeFile(at('proof.json'), JSON.stringify(proof))
  await writeFile(at('log.keys'), keys)
  const [own, other] = ['event_id', ''].map((name) =>
    items.find(({ event }) => (name === '' ? event.event_id !== eventId : event.event_id === eventId)),
  )
  await writeFile(at('event.json'), JSON.stringify(own))
  await writeFile(at('other.json'), JSON.stringify(other))
  await writeFile(at('edited.json'), JSON.stringify({ ...own, event: { ...own?.event, actor: 'user:mallory' } }))
  await writeFile(at('moved.json'), JSON.stringify({ ...own, seq: 1 }))
  await writeFile(at('bad-proof.json'), JSON.stringify({ ...proof, link_hash: 'a'.repeat(64) }))
  await writeFile(at('renamed-proof.json'), JSON.stringify({ ...proof, event_id: randomUUID() }))
  // From here on there is nothing to ask.
  await stack.ledgers[0]?.stop()
})
afterAll(() => stack.stop())

function verify(args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const main = path.join(import.meta.dirname, '../../cli/main.ts')
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [main, 'verify', ...args],
      { env: { PATH: process.env['PATH'] } },
      (error, stdout, stderr) => resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr }),
    )
  })
}

describe('signet verify --proof', () => {
  test.each([
    { proof: 'proof.json', event: 'event.json', wantCode: 0, want: /verified/ },
    {
      proof: 'proof.json',
      event: null,
      wantCode: 3,
      want: /the proof holds.*not checked {2}what the leaf commits to/s,
    },
    { proof: 'proof.json', event: 'edited.json', wantCode: 1, want: /not the one that the leaf commits to/ },
    { proof: 'proof.json', event: 'other.json', wantCode: 1, want: /not the one that the leaf commits to/ },
    { proof: 'proof.json', event: 'moved.json', wantCode: 1, want: /another link/ },
    { proof: 'bad-proof.json', event: 'event.json', wantCode: 1, want: /is not in the tree/ },
    { proof: 'renamed-proof.json', event: 'event.json', wantCode: 1, want: /another event_id/ },
    { proof: 'event.json', event: null, wantCode: 1, want: /not a proof of version 1/ },
  ])('$proof with $event: exit $wantCode', async ({ proof, event, wantCode, want }) => {
    const withEvent = event === null ? [] : ['--event', at(event)]
    const { code, stdout } = await verify(['--proof', at(proof), '--log-key', at('log.keys'), ...withEvent])
    expect(stdout).toMatch(want)
    expect(code).toBe(wantCode)
  })

  test('takes a key as text, and says all as JSON', async () => {
    const { code, stdout } = await verify([
      '--proof',
      at('proof.json'),
      '--event',
      at('event.json'),
      '--log-key',
      keys.trim(),
      '--json',
    ])
    expect(JSON.parse(stdout)).toMatchObject({ result: 'verified', origin: 'signet-ledger', seq: 3, unchecked: [] })
    expect(code).toBe(0)
  })

  test.each([
    { args: [], want: /no key of the log/ },
    { args: ['--log-key', '/nowhere'], want: /there is no such file/ },
    { args: ['--log-key', 'a+00000000+AAAA'], want: /cannot be used/ },
    { args: ['--log-key', 'x', 'FILE'], want: /takes no other/ },
  ])('$args: exit 2', async ({ args, want }) => {
    const { code, stderr } = await verify(['--proof', at('proof.json'), ...args])
    expect([code, stderr]).toEqual([2, expect.stringMatching(want)])
  })
})
