import { execFile } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { signCheckpoint, type TreeHead } from '#core/tree/checkpoint.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildLines, createClient } from '#test/support/producer.ts'
import { fillWall, lastCheckpoint, ORIGIN, verifyTampered, wallKeys, type WallKeys } from '#test/support/tamper.ts'

let stack: LedgerStack
let admin: pg.Client
let keys: WallKeys
let kept: { note: string; head: TreeHead }
const at = (name: string): string => path.join(stack.dir, name)

beforeAll(async () => {
  stack = await startLedgerStack()
  await fillWall(stack, [
    { acme: 4, globex: 2 },
    { acme: 300, globex: 20 },
    { acme: 10, globex: 250 },
  ])
  keys = wallKeys(stack)
  admin = new pg.Client(stack.wall.adminUrl)
  await admin.connect()
  kept = await lastCheckpoint(admin, keys)
  await writeFile(at('kept.checkpoint'), kept.note)
})
afterAll(async () => {
  await admin.end()
  await stack.stop()
})

type FsckOutput = { code: number; stdout: string; stderr: string }
function fsck(args: readonly string[], env: Record<string, string> = {}): Promise<FsckOutput> {
  const main = path.join(import.meta.dirname, '../../cli/main.ts')
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [main, 'fsck', ...args],
      {
        env: {
          PATH: process.env['PATH'],
          SIGNET_LEDGER_AUDIT_DB_URL: stack.wall.loginUrl,
          SIGNET_LEDGER_KEYRING: stack.keyringFile,
          ...env,
        },
      },
      (error, stdout, stderr) => resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr }),
    )
  })
}

describe('signet fsck', () => {
  test('verifies an untouched wall, up to the checkpoint given', async () => {
    const { code, stdout } = await fsck(['--json', '--checkpoint', at('kept.checkpoint')])
    expect(JSON.parse(stdout)).toMatchObject({
      result: 'verified',
      links: kept.head.size,
      tree: { leaves: kept.head.size, root: kept.head.root.toString('base64'), origin: ORIGIN },
      external: [kept.head.size],
      not_yet_signed: 0,
      not_yet_proven: 0,
      faults: [],
    })
    expect(code).toBe(0)
  })

  test('says what it could not know without one', async () => {
    const { code, stdout } = await fsck([])
    expect(code).toBe(3)
    expect(stdout).toMatch(/no fault found, not fully checked .* links of 2 tenants/)
    expect(stdout).toContain('whether the store was set back')
  })

  test.each([
    { what: 'no database', args: [], env: { SIGNET_LEDGER_AUDIT_DB_URL: 'x' }, want: /must name the wall/ },
    {
      what: 'no server',
      args: [],
      env: { SIGNET_LEDGER_AUDIT_DB_URL: 'postgres://u:hunter2@127.0.0.1:1/x' },
      want: /cannot be read/,
    },
    { what: 'no keyring', args: ['--keyring', '/nowhere'], env: {}, want: /there is no such file/ },
    { what: 'no checkpoint', args: ['--checkpoint', '/nowhere'], env: {}, want: /there is no such file/ },
    { what: 'a stray word', args: ['wall'], env: {}, want: /what is wall for/ },
  ])('$what: exit 2, in one line', async ({ args, env, want }) => {
    const { code, stderr } = await fsck(args, env)
    expect(code).toBe(2)
    expect(stderr).toMatch(want)
    expect(stderr).not.toContain('hunter2')
  })

  test('takes no checkpoint that somebody else signed', async () => {
    const { privateKey } = generateKeyPairSync('ed25519')
    await writeFile(at('forged.checkpoint'), signCheckpoint(kept.head, privateKey))
    const { code, stderr } = await fsck(['--checkpoint', at('forged.checkpoint')])
    expect([code, stderr]).toEqual([2, expect.stringContaining('no key of the log')])
  })

  test('names the fork when the checkpoint kept outside has another root', async () => {
    const root = Buffer.alloc(32, 7)
    await writeFile(at('other.checkpoint'), signCheckpoint({ ...kept.head, root }, keys.signingKey))
    const { code, stdout } = await fsck(['--json', '--checkpoint', at('other.checkpoint')])
    expect(JSON.parse(stdout)).toMatchObject({
      result: 'invalid',
      first_bad: { leaf: kept.head.size, fault: 'fork', tenant: null },
    })
    expect(code).toBe(1)
  })

  test('names a rollback when the store is sound but older', async () => {
    const later = { ...kept.head, size: kept.head.size + 5 }
    await writeFile(at('later.checkpoint'), signCheckpoint(later, keys.signingKey))
    const { code, stdout } = await fsck(['--checkpoint', at('later.checkpoint')])
    expect(code).toBe(1)
    expect(stdout).toMatch(/leaf \d+ of the tree \(rollback\): .* it was set back/)
  })

  test('another keyring: wrong-key', async () => {
    const other = JSON.parse(JSON.stringify(stack.keyring)) as { keys: Record<string, string>[] }
    for (const key of other.keys) if (key['use'] === 'chain') key['secret'] = Buffer.alloc(32, 3).toString('base64url')
    await writeFile(at('other-keyring.json'), JSON.stringify(other))
    const { code, stdout } = await fsck(['--json', '--keyring', at('other-keyring.json')])
    expect(code).toBe(1)
    expect(JSON.parse(stdout)).toMatchObject({ first_bad: { tenant: 'acme', seq: 1, fault: 'wrong-key' } })
  })

  const tampered: { what: string; sql: string; want: Record<string, unknown>; wantAll?: Record<string, unknown>[] }[] =
    [
      {
        what: 'a run gone',
        sql: "DELETE FROM signet.tree_runs WHERE first_leaf = (SELECT max(first_leaf) FROM signet.tree_runs WHERE tenant = 'acme')",
        want: { fault: 'delete' },
      },
      {
        what: 'a run of another tenant',
        sql: "UPDATE signet.tree_runs SET tenant = 'x' WHERE first_leaf = 0",
        want: { tenant: 'x', seq: 1, fault: 'truncate' },
      },
      {
        what: 'a run that starts elsewhere',
        sql: 'UPDATE signet.tree_runs SET first_leaf = first_leaf - 1 WHERE first_leaf = (SELECT max(first_leaf) FROM signet.tree_runs)',
        want: { fault: 'insert' },
      },
      {
        what: 'a tile changed',
        sql: 'UPDATE signet.tree_tiles SET hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1) WHERE level = 0 AND index = 1',
        want: { leaf: 256, fault: 'edit' },
      },
      {
        what: "a tile's root changed",
        sql: "UPDATE signet.tree_tiles SET root = sha256('') WHERE level = 0 AND index = 0",
        want: { leaf: 0, fault: 'edit' },
      },
      {
        what: 'a tile gone',
        sql: 'DELETE FROM signet.tree_tiles WHERE level = 0 AND index = 1',
        want: { leaf: 256, fault: 'delete' },
      },
      {
        what: 'a tile too many',
        sql: 'INSERT INTO signet.tree_tiles SELECT 0, 99, hashes, root FROM signet.tree_tiles WHERE level = 0 AND index = 0',
        want: { fault: 'insert' },
      },
      {
        what: 'the root of a checkpoint',
        sql: "UPDATE signet.tree_checkpoints SET root = sha256('') WHERE size = (SELECT min(size) FROM signet.tree_checkpoints)",
        want: { fault: 'edit' },
      },
      {
        what: 'the note of a checkpoint',
        sql: "UPDATE signet.tree_checkpoints SET note = replace(note, 'signet-ledger' || chr(10), 'signet-ledger' || chr(10) || '9') WHERE size = (SELECT min(size) FROM signet.tree_checkpoints)",
        want: { fault: 'edit' },
      },
      {
        what: 'the last checkpoint gone',
        sql: 'DELETE FROM signet.tree_checkpoints WHERE size = (SELECT max(size) FROM signet.tree_checkpoints)',
        want: { fault: 'truncate' },
      },
      {
        what: 'the last runs gone',
        sql: 'DELETE FROM signet.tree_runs WHERE first_leaf = (SELECT max(first_leaf) FROM signet.tree_runs)',
        want: { fault: 'truncate' },
      },
      {
        what: 'links and records cut off',
        sql: "DELETE FROM signet.links WHERE tenant = 'globex' AND seq > 270; DELETE FROM signet.records WHERE tenant = 'globex' AND seq > 270; DELETE FROM signet.compliance_stamps WHERE tenant = 'globex' AND seq > 270",
        want: { tenant: 'globex', seq: 271, fault: 'truncate' },
      },
      {
        what: 'all of a tenant gone but its runs',
        sql: "DELETE FROM signet.links WHERE tenant = 'globex'; DELETE FROM signet.records WHERE tenant = 'globex'; DELETE FROM signet.compliance_stamps WHERE tenant = 'globex'",
        want: { tenant: 'globex', seq: 1, fault: 'truncate' },
      },
      {
        what: 'a record in each chain',
        sql: "UPDATE signet.records SET actor = 'm' WHERE seq = 3",
        want: { tenant: 'acme', seq: 3, fault: 'edit' },
        wantAll: [
          { tenant: 'acme', seq: 3 },
          { tenant: 'globex', seq: 3 },
        ],
      },
      {
        what: 'a stamp that no event carries',
        sql: "INSERT INTO signet.compliance_stamps SELECT tenant, 'sha256:0', 2, trace_id, request_id, retention_class, stamp FROM signet.compliance_stamps WHERE tenant = 'acme' LIMIT 1",
        want: { tenant: 'acme', seq: 2, fault: 'insert' },
      },
      ...[
        "trace_id = repeat('a', 32)",
        "request_id = 'r'",
        "retention_class = 'x'",
        'seq = seq - 1',
        'seq = seq + 1',
      ].map((change) => ({
        what: `stamp ${change}`,
        sql: `UPDATE signet.compliance_stamps SET ${change} WHERE tenant = 'acme' AND seq = (SELECT min(seq) FROM signet.compliance_stamps WHERE tenant = 'acme')`,
        want: { tenant: 'acme' },
      })),
    ]
  test.each(tampered)('$what', async ({ sql, want, wantAll }) => {
    const { faults } = await verifyTampered(admin, (client) => client.query(sql), keys, [])
    expect(faults[0]).toMatchObject(want)
    if (wantAll !== undefined) expect(faults).toMatchObject(wantAll)
    const untouched = await verifyTampered(admin, async () => undefined, keys, [kept.head])
    expect(untouched.faults).toEqual([])
  })

  test('the ledger says it of one tenant, and how much of its chain is proved', async () => {
    const client = createClient(stack.ledgers[0]?.url ?? '', stack.token('proxy'))
    const verdict = (await client.verify()) as unknown as { tree: Record<string, number>; head: { seq: number } }
    expect(verdict).toMatchObject({
      ok: true,
      tree: { size: kept.head.size, in_tree: verdict.head.seq, not_yet_proven: 0 },
    })
    for (const { sql, fault } of [
      {
        sql: 'UPDATE signet.tree_tiles SET hashes = set_byte(hashes, 0, get_byte(hashes, 0) # 1) WHERE level = 0 AND index = 0',
        fault: 'edit',
      },
      { sql: 'DELETE FROM signet.tree_tiles WHERE level = 0 AND index = 1', fault: 'delete' },
      {
        sql: "UPDATE signet.tree_runs SET first_seq = first_seq + 1 WHERE tenant = 'acme' AND first_leaf > 0",
        fault: 'delete',
      },
    ]) {
      const saved = 'tree_tiles tree_runs'.split(' ')
      for (const table of saved)
        await admin.query(
          `CREATE TABLE public.kept_${table} AS SELECT * FROM signet.${table}; ALTER TABLE signet.${table} DISABLE TRIGGER ALL`,
        )
      try {
        await admin.query(sql)
        expect(await client.verify()).toMatchObject({ ok: false, checked: verdict.head.seq, first_bad: { fault } })
      } finally {
        for (const table of saved) {
          await admin.query(
            `BEGIN; DELETE FROM signet.${table}; INSERT INTO signet.${table} SELECT * FROM public.kept_${table}; DROP TABLE public.kept_${table}; COMMIT`,
          )
        }
      }
    }
    expect(await client.verify()).toMatchObject({ ok: true })
  })

  test('the tail past the last checkpoint from outside is counted, not proved', async () => {
    await createClient(stack.ledgers[0]?.url ?? '', stack.token('proxy')).append(buildLines(crypto.randomUUID(), 1, 4))
    const { code, stdout } = await fsck(['--json', '--checkpoint', at('kept.checkpoint')])
    // One more: the session was opened.
    expect(JSON.parse(stdout)).toMatchObject({ result: 'verified', links: kept.head.size + 5, not_yet_proven: 5 })
    expect(code).toBe(0)
  })
})
