import { randomUUID } from 'node:crypto'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { startGovernanceStack, type Called, type GovernanceStack } from '#test/support/governance.ts'

/** A start of the process takes its time on a machine that is busy. */
const RESTARTING = 300_000
const POLLING = { timeout: 90_000, interval: 100 }
const RULE = {
  id: 'own-slow-001',
  name: 'It answers',
  framework: 'NIST',
  severity: 'low',
  conditions: { fact: 'http.slow.answers', operator: 'equal', value: true },
}

let stack: GovernanceStack
let slow: Server
let folder: string
/** Requests of scans that are not answered, as long as it is `silent`. */
const held = new Set<ServerResponse>()
let silent = false
let asked = 0
let mostHeld = 0

beforeAll(async () => {
  slow = createServer((_request, response) => {
    asked += 1
    if (!silent) return response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    held.add(response)
    mostHeld = Math.max(mostHeld, held.size)
    response.on('close', () => held.delete(response))
    return undefined
  })
  await new Promise<void>((resolve) => slow.listen(0, '127.0.0.1', resolve))
  folder = await mkdtemp(path.join(tmpdir(), 'signet-rules-'))
  const url = `http://127.0.0.1:${(slow.address() as AddressInfo).port}/`
  stack = await startGovernanceStack({
    env: { SIGNET_GOVERNANCE_SCAN_URLS: `slow=${url}`, SIGNET_GOVERNANCE_SWEEP_AFTER_MS: '60000' },
  })
  for (const tenant of ['acme', 'globex']) expect((await call('POST', '/rules', RULE, tenant)).status).toBe(201)
})
afterAll(async () => {
  await stack?.stop()
  slow?.closeAllConnections()
  slow?.close()
  await rm(folder, { recursive: true, force: true })
})
beforeEach(() => {
  silent = false
  asked = 0
  mostHeld = 0
})

const call = (method: string, url: string, body?: unknown, tenant = 'acme'): Promise<Called> =>
  stack.call(tenant, method, url, body)
type Schedule = { id: string; next_at: string; last_scan: string | null; last_error: string | null }
const schedule = async (org: string, tenant = 'acme'): Promise<Schedule> =>
  (await call('GET', '/api/scan-schedules', undefined, tenant)).body.items.find(
    ({ org_id }: { org_id: string }) => org_id === org,
  )
const scans = async (org: string, tenant = 'acme'): Promise<{ id: string; passed: number }[]> =>
  (await call('GET', `/api/scans?org_id=${org}`, undefined, tenant)).body.items
async function scheduled(org: string, tenant = 'acme'): Promise<string> {
  const body = { cron: '0 3 * * *', rule_ids: [RULE.id], org_id: org }
  const made = await call('POST', '/api/scan-schedules', body, tenant)
  expect(made.status, JSON.stringify(made.body)).toBe(201)
  return made.body.id
}
const set = (what: string, id: string, tenant = 'acme'): Promise<void> =>
  stack.query(`UPDATE signet.scan_schedules SET ${what} WHERE id = '${id}'`, tenant)
const isLater = ({ next_at }: Schedule): boolean => Date.parse(next_at) > Date.now()

it('that was begun by a process that died is made by the next, once', { timeout: RESTARTING }, async () => {
  const id = await scheduled('killed')
  silent = true
  await set('next_at = now()', id)
  await expect.poll(() => held.size, POLLING).toBe(1)
  await stack.process().kill()
  silent = false
  asked = 0
  await stack.restart()
  // The one that died may yet be at it, as far as anybody knows: its turn is not over.
  const left = await schedule('killed')
  expect([isLater(left), left.last_scan, await scans('killed'), asked]).toEqual([false, null, [], 0])
  await set('run_until = now()', id)
  await expect.poll(async () => (await scans('killed')).length, POLLING).toBe(1)
  await expect.poll(async () => isLater(await schedule('killed')), POLLING).toBe(true)
  const [scan] = await scans('killed')
  expect(scan?.passed).toBe(1)
  expect(await schedule('killed')).toMatchObject({ last_scan: scan?.id, last_error: null })
})

it('whose turn another has by now is not stored', async () => {
  const id = await scheduled('replaced')
  silent = true
  await set('next_at = now()', id)
  await expect.poll(() => held.size, POLLING).toBe(1)
  await set(`run_id = '${randomUUID()}', run_until = now() + interval '1 hour'`, id)
  for (const response of held) response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
  const failed = async (): Promise<number> =>
    (await stack.events('acme', '&actor=system/scan-schedule')).filter(({ outcome }) => outcome === 'failure').length
  await expect.poll(failed, POLLING).toBe(1)
  expect([await scans('replaced'), isLater(await schedule('replaced'))]).toEqual([[], false])
  silent = false
  await set('run_until = now()', id)
  await expect.poll(async () => (await scans('replaced')).length, POLLING).toBe(1)
})

it('that never comes to its end is given up, and said so', async () => {
  const id = await scheduled('deadly')
  await set('next_at = now(), run_attempts = 3', id)
  await expect.poll(async () => isLater(await schedule('deadly')), POLLING).toBe(true)
  expect(await schedule('deadly')).toMatchObject({
    last_scan: null,
    last_error: expect.stringMatching(/begun 3 times/),
  })
  expect([await scans('deadly'), asked]).toEqual([[], 0])
  // The next time begins from the beginning.
  await set('next_at = now()', id)
  await expect.poll(async () => (await scans('deadly')).length, POLLING).toBe(1)
  await expect.poll(async () => (await schedule('deadly')).last_error, POLLING).toBe(null)
})

it('waits for a ledger that is away', async () => {
  const id = await scheduled('unrecorded')
  const ledger = stack.ledger.ledgers[0]?.child
  ledger?.kill('SIGSTOP')
  try {
    await set('next_at = now()', id)
    const postponed = async (): Promise<string | null> => (await schedule('unrecorded')).last_error
    await expect.poll(postponed, POLLING).toMatch(/ledger/)
  } finally {
    ledger?.kill('SIGCONT')
  }
  expect([await scans('unrecorded'), isLater(await schedule('unrecorded'))]).toEqual([[], false])
  await set('run_until = now()', id)
  await expect.poll(async () => (await scans('unrecorded')).length, POLLING).toBe(1)
  await expect.poll(async () => (await schedule('unrecorded')).last_error, POLLING).toBe(null)
})

it('does not wait for another tenant’s', async () => {
  const ids = { acme: await scheduled('first'), globex: await scheduled('second', 'globex') }
  silent = true
  await Promise.all([set('next_at = now()', ids.acme), set('next_at = now()', ids.globex, 'globex')])
  await expect.poll(() => mostHeld, POLLING).toBe(2)
  await expect.poll(async () => (await scans('first')).length, POLLING).toBe(1)
  await expect.poll(async () => (await scans('second', 'globex')).length, POLLING).toBe(1)
})

it('a rule of a file whose id a rule of the API has is said not to be in force', { timeout: RESTARTING }, async () => {
  expect((await call('GET', `/rules/${RULE.id}`)).body).toMatchObject({ source: 'api', shadows_file: false })
  await writeFile(path.join(folder, 'rules.yaml'), JSON.stringify([{ ...RULE, name: 'Of a file' }]))
  await call('DELETE', `/rules/${RULE.id}`, undefined, 'globex')
  await stack.restart({ SIGNET_GOVERNANCE_RULES_DIR: folder })
  const { items } = (await call('GET', '/rules')).body
  expect(items).toMatchObject([{ id: RULE.id, name: RULE.name, source: 'api', shadows_file: true }])
  expect(stack.process().output()).toMatch(/rules of files are not in force: the API has rules of these ids/)
  const { body } = await call('GET', `/rules/${RULE.id}`, undefined, 'globex')
  expect(body).toMatchObject({ name: 'Of a file', source: 'file', shadows_file: false })
})
it('and no longer, once the file is gone', { timeout: RESTARTING }, async () => {
  await rm(path.join(folder, 'rules.yaml'))
  await stack.restart({ SIGNET_GOVERNANCE_RULES_DIR: folder })
  expect((await call('GET', `/rules/${RULE.id}`)).body).toMatchObject({ shadows_file: false })
})
