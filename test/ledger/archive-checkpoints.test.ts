import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { DeleteObjectCommand, ListObjectVersionsCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { startLedgerStack, type LedgerProcess, type LedgerStack } from '#test/support/ledger.ts'
import { startObjectStore, type TestObjectStore } from '#test/support/object-store.ts'
import { buildLines, createClient } from '#test/support/producer.ts'

/** A wall that is really set back, goes another way, and is restored on purpose, beside an archive that keeps its checkpoints. In order. */
const BUCKET = 'archive'
const CLI = path.resolve('cli/bin.mjs')
const WAIT = { timeout: 60_000, interval: 200 }
let stack: LedgerStack
let store: TestObjectStore
let env: Record<string, string>
let ledger: LedgerProcess
const session = randomUUID()
let sent = 0

beforeAll(async () => {
  ;[store, stack] = await Promise.all([
    startObjectStore(),
    startLedgerStack({
      ledgers: 0,
      identities: [
        { name: 'proxy', tenant: 'acme', producer_id: 'demo/api', scopes: ['audit:write', 'audit:read'] },
        { name: 'admin', tenant: 'acme', scopes: ['audit:admin'] },
      ],
    }),
  ])
  await store.createBucket(BUCKET)
  env = {
    SIGNET_ARCHIVE_BUCKET: BUCKET,
    SIGNET_ARCHIVE_ENDPOINT: store.endpoint,
    SIGNET_ARCHIVE_PREFIX: 'ledger-a/',
    SIGNET_ARCHIVE_EVERY_MINUTES: '0',
    AWS_ACCESS_KEY_ID: store.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: store.credentials.secretAccessKey,
  }
  await start()
})
afterAll(async () => {
  await stack?.stop()
  await store?.stop()
})

async function start(): Promise<void> {
  ledger = await stack.startLedger({ env: { ...env, SIGNET_LEDGER_VERIFY_SHARE: '100' } })
}
async function append(count: number): Promise<void> {
  await createClient(ledger.url, stack.token('proxy')).append(
    buildLines(session, sent + 1, count, { actor: 'service:one' }),
  )
  sent += count
}
async function keys(folder: string): Promise<string[]> {
  const { Versions = [] } = await store.s3.send(
    new ListObjectVersionsCommand({ Bucket: BUCKET, Prefix: `ledger-a/${folder}` }),
  )
  return [...new Set(Versions.map(({ Key = '' }) => Key))].toSorted()
}
const sizeOf = (key: string | undefined): number => Number(key?.split('/').at(-1) ?? 0)
/** Waits until the archive has a checkpoint of all links, and gives its size. */
async function held(folder = 'checkpoints/'): Promise<number> {
  const { head } = await createClient(ledger.url, stack.token('proxy')).verify()
  await vi.waitFor(async () => expect(sizeOf((await keys(folder)).at(-1))).toBe(head.seq), WAIT)
  return head.seq
}
async function metric(name: string): Promise<number> {
  const text = await (await fetch(`${ledger.url}/metrics`)).text()
  return Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${name} `))
      ?.split(' ')[1] ?? 0,
  )
}
type FsckAnswer = {
  result: string
  links: number
  not_yet_proven: number | null
  archive: {
    read: boolean
    newest?: number
    checkpoints?: number
    unsigned?: number
    restores?: unknown[]
    fault?: string
  }
  first_bad?: { fault: string; leaf?: number }
}
async function fsck(...args: string[]): Promise<{ code: number; report: FsckAnswer }> {
  const run = promisify(execFile)(process.execPath, [CLI, 'fsck', '--json', '--keyring', stack.keyringFile, ...args], {
    env: { PATH: process.env['PATH'], ...env, SIGNET_LEDGER_AUDIT_DB_URL: stack.wall.loginUrl },
  })
  const { code, stdout } = await run.then(
    ({ stdout: text }) => ({ code: 0, stdout: text }),
    (error: { code: number; stdout: string }) => error,
  )
  return { code, report: JSON.parse(stdout) as FsckAnswer }
}
async function call(method: string, target: string, body?: unknown): Promise<{ status: number; body: unknown }> {
  const response = await fetch(`${ledger.url}${target}`, {
    method,
    headers: { authorization: `Bearer ${stack.token('admin')}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return { status: response.status, body: await response.json() }
}
const copy = (): string => path.join(stack.dir, 'wall-copy')
const wallDir = (): string => path.join(stack.dir, 'wall')
/** Of the whole server, with the ledger away. */
async function copyWall(from: string, to: string): Promise<void> {
  await ledger.stop()
  await stack.wall.server.stop()
  await rm(to, { recursive: true, force: true })
  await promisify(execFile)('cp', ['-a', from, to])
  await stack.wall.restart()
}

let early: number
let late: number

describe('the checkpoints of an archive', () => {
  it('are what fsck compares a wall with, and the verifier too', async () => {
    await append(50)
    early = await held()
    expect((await call('POST', '/api/audit/archive/snapshots', '')).status).toBe(201)
    await copyWall(wallDir(), copy())
    await start()
    await append(40)
    late = await held()
    expect((await call('POST', '/api/audit/archive/snapshots', '')).status).toBe(201)
    expect(await fsck('--archive')).toMatchObject({
      code: 0,
      report: {
        result: 'verified',
        links: late,
        not_yet_proven: 0,
        archive: { read: true, newest: late, restores: [] },
      },
    })
    await vi.waitFor(async () => expect(await metric('signet_ledger_verified_archive_size')).toBe(late), WAIT)
  })

  it('what came after the last of them is said to be not yet proven', async () => {
    await store.kill()
    await append(7)
    const { head } = await createClient(ledger.url, stack.token('proxy')).verify()
    expect(head.seq).toBe(late + 7)
    await vi.waitFor(
      async () =>
        expect(await createClient(ledger.url, stack.token('proxy')).verify()).toMatchObject({
          tree: { not_yet_proven: 0, archived: { size: late, not_yet_proven: 7 } },
        }),
      WAIT,
    )
    await ledger.stop()
    await store.restart()
    expect(await fsck('--archive')).toMatchObject({
      code: 0,
      report: { result: 'verified', links: late + 7, not_yet_proven: 7 },
    })
  })

  it('show that a wall was set back, whatever somebody else put over them', async () => {
    await start()
    late = await held()
    await copyWall(copy(), wallDir())
    expect(await fsck()).toMatchObject({ code: 3, report: { links: early } })
    const rollback = { code: 1, report: { result: 'invalid', first_bad: { fault: 'rollback' } } }
    expect(await fsck('--archive')).toMatchObject(rollback)

    const newest = (await keys('checkpoints/')).at(-1)!
    const put = (Key: string): Promise<unknown> =>
      store.s3.send(new PutObjectCommand({ Bucket: BUCKET, Key, Body: 'not a checkpoint' }))
    for (const key of await keys('checkpoints/')) await put(key)
    await put(newest)
    await put('ledger-a/checkpoints/9999999999999999')
    await put('ledger-a/checkpoints/zzz')
    await put('ledger-a/restores/000001')
    await store.s3.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: newest }))
    const found = await fsck('--archive')
    expect(found).toMatchObject(rollback)
    expect(found.report.archive.unsigned).toBeGreaterThan(0)
    expect(found.report.archive.newest).toBe(late)
  })

  it('the ledger finds it by itself, and archives nothing that would hide it', async () => {
    const before = await keys('')
    await start()
    await vi.waitFor(
      async () =>
        expect(await metric('signet_ledger_verification_failures_total{fault="rollback"}')).toBeGreaterThan(0),
      WAIT,
    )
    await createClient(ledger.url, stack.token('proxy')).append(
      buildLines(randomUUID(), 1, 150, { actor: 'service:two' }),
    )
    await vi.waitFor(
      async () =>
        expect(
          await metric('signet_ledger_archive_failures_total{what="checkpoint",code="CHAIN_BROKEN"}'),
        ).toBeGreaterThan(1),
      WAIT,
    )
    expect(await call('POST', '/api/audit/archive/snapshots', '')).toMatchObject({ body: { code: 'CHAIN_BROKEN' } })
    expect((await keys('')).filter((key) => key.includes('checkpoints/'))).toEqual(
      before.filter((key) => key.includes('checkpoints/')),
    )
    // It is longer than before now, and another one.
    await vi.waitFor(
      async () => expect(await metric('signet_ledger_verification_failures_total{fault="fork"}')).toBeGreaterThan(0),
      WAIT,
    )
    expect(await fsck('--archive')).toMatchObject({ code: 1, report: { first_bad: { fault: 'fork' } } })
  })
})

describe('a restore on purpose', () => {
  it('is stated with what it gives up, and is in the chain', async () => {
    expect(await call('GET', '/api/audit/archive/restores')).toMatchObject({
      status: 200,
      body: { items: [], contradiction: { continues: { size: early }, gives_up: { size: late } } },
    })
    const state = (gives_up: number, reason = 'disk of the primary lost, case 12'): ReturnType<typeof call> =>
      call('POST', '/api/audit/archive/restores', { reason, gives_up })
    expect((await state(late - 1)).status).toBe(409)
    expect((await state(late, 'told by jane@example.com')).status).toBe(400)
    expect(await state(late)).toMatchObject({
      status: 201,
      body: { number: 1, continues: { size: early }, gives_up: { size: late }, by: 'admin' },
    })
    expect((await state(late)).status).toBe(409)
    const [event] = await createClient(ledger.url, stack.token('proxy')).all('&event_type=audit.wall.restored')
    expect(event?.event).toMatchObject({
      context: {
        number: 1,
        continues: { size: early },
        gives_up: { size: late },
        reason: 'disk of the primary lost, case 12',
      },
    })
  })

  it('ends the contradiction: checkpoints and snapshots are archived again, and everything verifies', async () => {
    const now = await held('branches/000001/checkpoints/')
    expect(now).toBeGreaterThan(late)
    expect(await fsck('--archive')).toMatchObject({
      code: 0,
      report: {
        result: 'verified',
        not_yet_proven: 0,
        archive: { newest: now, restores: [{ continues: early, gives_up: late, by: 'admin' }] },
      },
    })
    await vi.waitFor(async () => expect(await metric('signet_ledger_verified_archive_size')).toBe(now), WAIT)
    expect((await call('POST', '/api/audit/archive/snapshots', '')).status).toBe(201)
    const verify = promisify(execFile)(
      process.execPath,
      [CLI, 'archive', 'verify', '--json', '--keyring', stack.keyringFile],
      { env: { PATH: process.env['PATH'], ...env } },
    )
    expect((await verify).stdout).toContain('"result":"verified"')
  })

  it('does not excuse the next time', async () => {
    await copyWall(copy(), wallDir())
    expect(await fsck('--archive')).toMatchObject({ code: 1, report: { first_bad: { fault: 'rollback' } } })
    await start()
    expect(await call('GET', '/api/audit/archive/restores')).toMatchObject({
      body: { items: [{ number: 1 }], contradiction: { continues: { size: early } } },
    })
  })
})

describe('an archive that cannot be read', () => {
  it('is said to be not read, by fsck and by the ledger', async () => {
    await store.kill()
    const errors = await metric('signet_ledger_verification_errors_total{code="ARCHIVE_UNAVAILABLE"}')
    expect(await fsck('--archive')).toMatchObject({
      code: 3,
      report: { result: 'not-fully-checked', not_yet_proven: null, archive: { read: false } },
    })
    await vi.waitFor(
      async () =>
        expect(await metric('signet_ledger_verification_errors_total{code="ARCHIVE_UNAVAILABLE"}')).toBeGreaterThan(
          errors,
        ),
      WAIT,
    )
    expect(ledger.output()).toContain('external checkpoints not read')
    await store.restart()
  })

  it('nor does one without a checkpoint pass for one', async () => {
    env = { ...env, SIGNET_ARCHIVE_PREFIX: 'nothing/' }
    expect(await fsck('--archive')).toMatchObject({
      code: 3,
      report: { result: 'not-fully-checked', archive: { read: true, newest: null } },
    })
  })
})
