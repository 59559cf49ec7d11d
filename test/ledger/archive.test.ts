import { spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { DeleteObjectCommand, ListObjectVersionsCommand, PutObjectRetentionCommand } from '@aws-sdk/client-s3'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { startObjectStore, type TestObjectStore } from '#test/support/object-store.ts'
import { buildEvent, buildLines, buildStamp, createClient, lineOf, stampHashOf } from '#test/support/producer.ts'

/** Snapshots of a real ledger in a real object store, and what can happen to them. */
const BUCKET = 'archive'
const CLI = path.resolve('cli/bin.mjs')
let stack: LedgerStack
let store: TestObjectStore
let env: Record<string, string>

beforeAll(async () => {
  ;[store, stack] = await Promise.all([
    startObjectStore(),
    startLedgerStack({
      ledgers: 0,
      identities: [
        { name: 'proxy', tenant: 'acme', producer_id: 'demo/api', scopes: ['audit:write', 'audit:read'] },
        { name: 'globex', tenant: 'globex', producer_id: 'demo/api', scopes: ['audit:write', 'audit:read'] },
        { name: 'admin', tenant: 'acme', scopes: ['audit:admin'] },
      ],
    }),
  ])
  await store.createBucket(BUCKET)
  await store.createBucket('open', { lock: false })
  env = {
    SIGNET_ARCHIVE_BUCKET: BUCKET,
    SIGNET_ARCHIVE_ENDPOINT: store.endpoint,
    SIGNET_ARCHIVE_EVERY_MINUTES: '0',
    AWS_ACCESS_KEY_ID: store.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: store.credentials.secretAccessKey,
  }
  await stack.startLedger({ env })
})
afterAll(async () => {
  await stack?.stop()
  await store?.stop()
})

const url = (): string => stack.ledgers.at(-1)?.url ?? ''
const append = (name: string, count: number) =>
  createClient(url(), stack.token(name)).append(buildLines(randomUUID(), 1, count, { actor: 'service:one' }))
async function snapshot(): Promise<{ status: number; body: { code?: string; detail?: string; records?: number } }> {
  const response = await createClient(url(), stack.token('admin')).post('/api/audit/archive/snapshots', '')
  return { status: response.status, body: (await response.json()) as never }
}
/** When the tree has what was appended. */
async function snapshotOfNew(): Promise<void> {
  await expect.poll(async () => (await snapshot()).status, { timeout: 30_000, interval: 300 }).toBe(201)
}
function signet(args: string[], more: Record<string, string> = {}) {
  const cli = spawnSync(process.execPath, [CLI, ...args], {
    env: { PATH: process.env['PATH'], ...env, ...more },
    encoding: 'utf8',
  })
  return { code: cli.status, output: `${cli.stdout}${cli.stderr}` }
}
const verify = (more?: Record<string, string>) =>
  signet(['archive', 'verify', '--json', '--keyring', stack.keyringFile], more)
async function versions(prefix = 'snapshots/') {
  const { Versions = [] } = await store.s3.send(new ListObjectVersionsCommand({ Bucket: BUCKET, Prefix: prefix }))
  return Versions.map(({ Key = '', VersionId = '' }) => ({ Bucket: BUCKET, Key, VersionId }))
}

describe('a snapshot', () => {
  it('is proven, and verifies from the store alone; the next one adds to it', async () => {
    await append('proxy', 120)
    await append('globex', 7)
    const event = buildEvent({ actor: 'service:one', request_id: randomUUID() })
    const stamp = buildStamp({ tenant: 'acme', producerId: 'demo/api', event })
    const line = { session: randomUUID(), spool_seq: 1, event: { ...event, stamp_hash: stampHashOf(stamp) }, stamp }
    await createClient(url(), stack.token('proxy')).append([lineOf(line)])
    await snapshotOfNew()
    expect(verify()).toMatchObject({ code: 0, output: expect.stringContaining('"result":"verified"') })
    await append('proxy', 30)
    await snapshotOfNew()
    expect(verify()).toMatchObject({ code: 0, output: expect.stringContaining('"result":"verified"') })
    expect(signet(['archive', 'list']).output.trim().split('\n')).toHaveLength(2)
    const admin = new pg.Client(stack.wall.adminUrl)
    await admin.connect()
    const { rows } = await admin.query(
      `SELECT p.tenant, p.first_seq::int, p.last_seq::int, p.records::int, (SELECT count(*)::int FROM signet.links l WHERE l.tenant = p.tenant AND l.seq <= p.last_seq) AS links
       FROM signet.archive_proofs p ORDER BY p.tenant, p.last_seq`,
    )
    await admin.end()
    expect(rows.length).toBeGreaterThanOrEqual(3)
    for (const { first_seq: first, last_seq: last, records, links } of rows)
      expect([first, records, links]).toEqual([1, last, last])
  })
  it('cannot be deleted, nor its time made shorter, not even by who may everything', async () => {
    const all = await versions()
    expect(all.length).toBeGreaterThan(5)
    for (const version of all) {
      await expect(
        store.s3.send(new DeleteObjectCommand({ ...version, BypassGovernanceRetention: true })),
      ).rejects.toThrow(/lock|denied|retention/i)
      const Retention = { Mode: 'COMPLIANCE', RetainUntilDate: new Date(Date.now() + 60_000) } as const
      await expect(store.s3.send(new PutObjectRetentionCommand({ ...version, Retention }))).rejects.toThrow(
        /lock|denied|retention|past/i,
      )
    }
    expect(verify().code).toBe(0)
  })
  it('is restored into an empty wall, which then verifies', async () => {
    // As an outsider keeps it: nothing was recorded since the last snapshot.
    const checkpoint = path.join(stack.dir, 'checkpoint')
    await writeFile(checkpoint, await (await fetch(`${url()}/log/checkpoint`)).text())
    const other = await startLedgerStack({ ledgers: 0 })
    try {
      const restore = (): ReturnType<typeof signet> =>
        signet(['archive', 'restore', '--json', '--keyring', stack.keyringFile], {
          SIGNET_LEDGER_AUDIT_DB_OWNER_URL: other.wall.adminUrl,
        })
      expect(restore()).toMatchObject({ code: 0, output: expect.stringContaining('"result":"restored"') })
      const fsck = signet(['fsck', '--keyring', stack.keyringFile, '--checkpoint', checkpoint, '--json'], {
        SIGNET_LEDGER_AUDIT_DB_URL: other.wall.loginUrl,
      })
      expect(fsck.code, fsck.output).toBe(0)
      const count = async (at: string, table: string): Promise<string> => {
        const client = new pg.Client(at)
        await client.connect()
        const { rows } = await client.query(`SELECT count(*) AS n FROM signet.${table}`)
        await client.end()
        return rows[0].n
      }
      for (const table of ['tree_tiles', 'compliance_stamps'])
        expect([table, await count(other.wall.adminUrl, table)]).toEqual([
          table,
          await count(stack.wall.adminUrl, table),
        ])
      // Not a second time, and not over anything.
      expect(restore()).toMatchObject({ code: 2, output: expect.stringContaining('not empty') })
    } finally {
      await other.stop()
    }
  })
})

describe('what can go wrong', () => {
  it('the store is away: said so, and the next snapshot is whole', async () => {
    await append('proxy', 10)
    await store.kill()
    expect(await snapshot()).toMatchObject({ status: 503, body: { code: 'ARCHIVE_UNAVAILABLE' } })
    await store.restart()
    await snapshotOfNew()
    expect(verify().code).toBe(0)
  })
  it('other credentials: nothing is read', () => {
    const { code, output } = verify({ AWS_SECRET_ACCESS_KEY: 'wrong' })
    expect([code, output]).toEqual([2, expect.stringMatching(/Signature|denied|Forbidden/i)])
  })
  it('a bucket without object lock is refused', async () => {
    await stack.startLedger({ env: { ...env, SIGNET_ARCHIVE_BUCKET: 'open' } })
    expect(await snapshot()).toMatchObject({
      status: 503,
      body: { code: 'ARCHIVE_UNAVAILABLE', detail: expect.stringContaining('object lock') },
    })
    await stack.ledgers.pop()?.stop()
  })
  it('a wall that was set back is not archived as its continuation', async () => {
    const admin = new pg.Client(stack.wall.adminUrl)
    await admin.connect()
    const proofs = async (): Promise<string> =>
      (await admin.query('SELECT count(*) AS n FROM signet.archive_proofs')).rows[0].n
    const before = await proofs()
    // The last link of a tenant becomes another one, as after a restore and new events.
    await admin.query('SET session_replication_role = replica')
    const { rows } = await admin.query(
      "SELECT tableoid::regclass::text AS part, max(seq) AS seq FROM signet.links WHERE tenant = 'globex' GROUP BY 1",
    )
    await admin.query(`ALTER TABLE ${rows[0].part} DISABLE TRIGGER ALL`)
    await admin.query(
      `UPDATE ${rows[0].part} SET hash = decode(repeat('ab', 32), 'hex') WHERE tenant = 'globex' AND seq = $1`,
      [rows[0].seq],
    )
    await append('proxy', 5)
    await expect
      .poll(async () => (await snapshot()).body, { timeout: 30_000, interval: 300 })
      .toMatchObject({ code: 'CHAIN_BROKEN', detail: expect.stringContaining('globex is another one') })
    expect(await proofs()).toBe(before)
    await admin.end()
  })
})
