import { createSecretKey, generateKeyPairSync, randomBytes, randomUUID, type KeyObject } from 'node:crypto'
import type pg from 'pg'
import { openRecord, sealRecord } from '#core/audit/record.ts'
import type { ChainFault } from '#core/chain/fault.ts'
import { commitment, linkHash, NO_PREDECESSOR } from '#core/chain/link.ts'
import { signCheckpoint } from '#core/tree/checkpoint.ts'
import { leafHash } from '#core/tree/hash.ts'
import { TreeRebuild } from '#core/tree/rebuild.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import { readLinks, readRecords, readTraceHeads } from '#runtime/wall/chain.ts'
import { ORIGIN, type WallKeys } from '#test/support/tamper.ts'

/** What the wall holds, to choose from. */
export type Wall = {
  readonly heads: Readonly<Record<'acme' | 'globex', number>>
  readonly sizes: readonly number[]
  readonly runs: readonly number[]
  readonly tiles: number
}
export type Choose = {
  /** A whole number from `low` to `high`, both included. */
  between(low: number, high: number): number
  of<T>(items: readonly T[]): T
}
/** One thing that somebody with every right in the database does, and how it has to be named. Undefined: however it is. */
export type Tampering = {
  readonly kind: ChainFault
  readonly what: string
  readonly wantFaults?: readonly ChainFault[]
  readonly wantTenant?: string | null
  readonly wantSeq?: number
  readonly wantLeaf?: number
  readonly apply: (client: pg.Client) => Promise<unknown>
}

const RECORD_EDITS = [
  "actor = actor || 'x'",
  "action = 'PUT'",
  "resource = resource || '/x'",
  "stage = 'ingest'",
  "outcome = 'denied'",
  "request_id = request_id || 'r'",
  "trace_id = repeat('a', 32)",
  "event_type = event_type || 'x'",
  'event_id = gen_random_uuid()',
  'session = gen_random_uuid()',
  'spool_seq = coalesce(spool_seq, 0) + 1',
  "producer_id = producer_id || 'p'",
  "region = 'eu'",
  "data_domain = 'd'",
  "resource_type = 't'",
  "resource_id = 'i'",
  "stamp_hash = 'sha256:0'",
  `"timestamp" = "timestamp" + interval '1 microsecond'`,
  "received_at = received_at - interval '1 day'",
  "month = month - interval '1 month'",
] as const
const LINK_EDITS = [
  "commitment = sha256('')",
  "hash = sha256('')",
  "previous_hash = sha256('')",
  "previous_trace_hash = sha256('')",
  "trace_hmac = sha256('')",
  'event_id = gen_random_uuid()',
  "retention_class = 'x'",
  "month = month - interval '1 month'",
  "appended_at = appended_at - interval '1 microsecond'",
] as const
const STAMP_EDITS = [
  "trace_id = repeat('a', 32)",
  "request_id = request_id || 'r'",
  "retention_class = 'x'",
  "stamp = stamp || ' '",
] as const
/** How far from its place the verifier looks for a link. */
const REACH = 200

const flip = (column: string, at: number): string =>
  `${column} = set_byte(${column}, ${at}, get_byte(${column}, ${at}) # 1)`
const both = (sql: (table: string) => string): string => ['links', 'records'].map((table) => sql(table)).join(';')
/** Moves numbers up or down without two being the same at any time. */
const shift = (tenant: string, from: number, by: number): string =>
  both(
    (table) =>
      `UPDATE signet.${table} SET seq = seq + 1000000 WHERE tenant = '${tenant}' AND seq >= ${from}; UPDATE signet.${table} SET seq = seq - 1000000 + ${by} WHERE tenant = '${tenant}' AND seq >= 1000000`,
  )
const cut = (tenant: string, after: number, tables = ['links', 'records', 'compliance_stamps']): string =>
  tables.map((table) => `DELETE FROM signet.${table} WHERE tenant = '${tenant}' AND seq > ${after}`).join(';')

/** All that can be done, each with places to choose. */
export function tamperings(wall: Wall, choose: Choose, keys: WallKeys): (() => Tampering)[] {
  const tenant = choose.of(['acme', 'globex'] as const)
  const other = tenant === 'acme' ? 'globex' : 'acme'
  const head = wall.heads[tenant]
  const seq = choose.between(2, head - 1)
  const place = `tenant = '${tenant}' AND seq = ${seq}`
  const tile = choose.between(0, wall.tiles - 1)
  const size = choose.of(wall.sizes)
  const sql = (statements: string) => (client: pg.Client) => client.query(statements)
  const here = { wantTenant: tenant, wantSeq: seq } as const
  const edit = (what: string, statements: string): Tampering => ({
    kind: 'edit',
    what,
    ...here,
    apply: sql(statements),
  })
  const inTree = { wantTenant: null } as const
  const someStamp = `tenant = '${tenant}' AND seq = (SELECT seq FROM signet.compliance_stamps WHERE tenant = '${tenant}' ORDER BY seq OFFSET ${choose.between(0, wall.sizes.length - 1)} LIMIT 1)`
  return [
    // edit
    () => edit('a column of a record', `UPDATE signet.records SET ${choose.of(RECORD_EDITS)} WHERE ${place}`),
    () => edit('a column of a link', `UPDATE signet.links SET ${choose.of(LINK_EDITS)} WHERE ${place}`),
    () =>
      edit('a byte of a record', `UPDATE signet.records SET ${flip('bytes', choose.between(0, 300))} WHERE ${place}`),
    () => edit('a byte of a nonce', `UPDATE signet.records SET ${flip('nonce', choose.between(0, 31))} WHERE ${place}`),
    () =>
      edit(
        'a byte of a hash',
        `UPDATE signet.links SET ${flip(choose.of(['hash', 'previous_hash', 'previous_trace_hash', 'commitment', 'trace_hmac']), choose.between(0, 31))} WHERE ${place}`,
      ),
    () => ({
      kind: 'edit',
      what: 'a stamp',
      wantTenant: tenant,
      apply: sql(`UPDATE signet.compliance_stamps SET ${choose.of(STAMP_EDITS)} WHERE ${someStamp}`),
    }),
    () => ({
      kind: 'edit',
      what: 'a tile',
      ...inTree,
      wantLeaf: tile * 256,
      apply: sql(
        `UPDATE signet.tree_tiles SET ${choose.of([flip('hashes', choose.between(0, 8_191)), flip('root', choose.between(0, 31))])} WHERE level = 0 AND index = ${tile}`,
      ),
    }),
    () => ({
      kind: 'edit',
      what: 'the root of a checkpoint',
      ...inTree,
      wantLeaf: size,
      apply: sql(`UPDATE signet.tree_checkpoints SET ${flip('root', choose.between(0, 31))} WHERE size = ${size}`),
    }),
    () => ({
      kind: 'edit',
      what: 'the size of a checkpoint',
      ...inTree,
      wantFaults: ['edit', 'truncate', 'fork'],
      apply: sql(`UPDATE signet.tree_checkpoints SET size = size - 1 WHERE size = ${size}`),
    }),
    // Changed in the line of the signature, it may name a key that nobody knows.
    () => ({
      kind: 'edit',
      what: 'the note of a checkpoint',
      ...inTree,
      wantFaults: ['edit', 'wrong-key'],
      apply: sql(
        `UPDATE signet.tree_checkpoints SET note = overlay(note placing 'q' from ${choose.between(1, 80)} for 1) || 'q' WHERE size = ${size}`,
      ),
    }),
    // What is said of a run does not tell which of its numbers was changed: only that chain and tree are not covered.
    () => ({
      kind: 'edit',
      what: 'a run',
      wantFaults: ['edit', 'delete', 'insert', 'truncate'],
      apply: sql(
        `UPDATE signet.tree_runs SET ${choose.of(['count = count + 1', 'first_seq = first_seq + 1', 'first_leaf = first_leaf + 1', "tenant = 'nobody'"])} WHERE first_leaf = ${choose.of(wall.runs)}`,
      ),
    }),
    // delete
    () => ({ kind: 'delete', what: 'a record', ...here, apply: sql(`DELETE FROM signet.records WHERE ${place}`) }),
    () => ({ kind: 'delete', what: 'a link', ...here, apply: sql(`DELETE FROM signet.links WHERE ${place}`) }),
    () => ({
      kind: 'delete',
      what: 'link and record',
      ...here,
      apply: sql(both((table) => `DELETE FROM signet.${table} WHERE ${place}`)),
    }),
    () => ({
      kind: 'delete',
      what: 'link and record, the rest renumbered',
      ...here,
      apply: sql(`${both((table) => `DELETE FROM signet.${table} WHERE ${place}`)}; ${shift(tenant, seq + 1, -1)}`),
    }),
    () => ({
      kind: 'delete',
      what: 'the beginning',
      wantTenant: tenant,
      wantSeq: 1,
      apply: sql(both((table) => `DELETE FROM signet.${table} WHERE tenant = '${tenant}' AND seq <= ${seq}`)),
    }),
    () => ({
      kind: 'delete',
      what: 'a stamp',
      wantTenant: tenant,
      apply: sql(`DELETE FROM signet.compliance_stamps WHERE ${someStamp}`),
    }),
    () => ({
      kind: 'delete',
      what: 'a tile',
      ...inTree,
      wantLeaf: tile * 256,
      apply: sql(`DELETE FROM signet.tree_tiles WHERE level = 0 AND index = ${tile}`),
    }),
    () => ({
      kind: 'delete',
      what: 'a run',
      wantFaults: ['delete', 'truncate'],
      ...inTree,
      apply: sql(`DELETE FROM signet.tree_runs WHERE first_leaf = ${choose.of(wall.runs)}`),
    }),
    // insert
    () => ({
      kind: 'insert',
      what: 'a second record',
      ...here,
      apply: sql(
        `CREATE TEMP TABLE copy ON COMMIT DROP AS SELECT * FROM signet.records WHERE ${place}; UPDATE copy SET month = month - interval '1 month'; INSERT INTO signet.records SELECT * FROM copy`,
      ),
    }),
    () => ({
      kind: 'insert',
      what: 'an invented link, the rest renumbered',
      ...here,
      apply: sql(invent(tenant, seq, "sha256('x')", 'commitment')),
    }),
    () => ({
      kind: 'insert',
      what: 'an invented link with its record, the rest renumbered',
      ...here,
      apply: (client) => inventWhole(client, tenant, seq),
    }),
    () => {
      const of = choose.between(Math.max(1, seq - REACH), seq - 1)
      return {
        kind: 'insert',
        what: 'a copy of a link, the rest renumbered',
        ...here,
        apply: sql(copied(tenant, of, seq)),
      }
    },
    () => ({
      kind: 'insert',
      what: 'a link behind the end',
      wantFaults: ['edit', 'insert', 'wrong-key'],
      wantTenant: tenant,
      wantSeq: head + 1,
      apply: sql(moved(other, wall.heads[other], tenant, head + 1)),
    }),
    () => ({
      kind: 'insert',
      what: 'a stamp that no event carries',
      ...here,
      apply: sql(
        `INSERT INTO signet.compliance_stamps SELECT tenant, 'sha256:0', ${seq}, trace_id, request_id, retention_class, stamp FROM signet.compliance_stamps WHERE tenant = '${tenant}' LIMIT 1`,
      ),
    }),
    () => ({
      kind: 'insert',
      what: 'a tile',
      ...inTree,
      apply: sql(
        `INSERT INTO signet.tree_tiles SELECT ${choose.of([0, 1])}, 99, hashes, root FROM signet.tree_tiles WHERE level = 0 AND index = ${tile}`,
      ),
    }),
    // reorder
    () => {
      const [low, high] = [seq, choose.between(seq + 1, Math.min(head, seq + REACH))]
      return {
        kind: 'reorder',
        what: 'two links exchanged',
        ...here,
        apply: sql(both((table) => swapped(table, tenant, low, high))),
      }
    },
    () => ({
      kind: 'edit',
      what: 'the records of two links exchanged',
      ...here,
      apply: sql(swapped('records', tenant, seq, choose.between(seq + 1, head))),
    }),
    // truncate
    () => ({
      kind: 'truncate',
      what: 'the end of a chain',
      wantTenant: tenant,
      wantSeq: seq + 1,
      apply: sql(cut(tenant, seq)),
    }),
    () => ({
      kind: 'truncate',
      what: 'the last links, not their records',
      wantTenant: tenant,
      wantSeq: seq + 1,
      apply: sql(cut(tenant, seq, ['links'])),
    }),
    () => ({ kind: 'truncate', what: 'a whole chain', wantTenant: tenant, wantSeq: 1, apply: sql(cut(tenant, 0)) }),
    () => ({
      kind: 'truncate',
      what: 'the last runs',
      ...inTree,
      apply: sql(`DELETE FROM signet.tree_runs WHERE first_leaf >= ${choose.of(wall.runs)}`),
    }),
    () => ({
      kind: 'truncate',
      what: 'the last checkpoints',
      ...inTree,
      apply: sql(`DELETE FROM signet.tree_checkpoints WHERE size >= ${size}`),
    }),
    // fork
    () => ({
      kind: 'fork',
      what: 'the last links made anew with the key',
      wantFaults: ['fork', 'edit'],
      ...inTree,
      apply: (client) => rewrite(client, tenant, seq, chainKey(keys)),
    }),
    () => ({
      kind: 'fork',
      what: 'the last links made anew with the key, and the tree signed over them',
      ...inTree,
      apply: async (client) => {
        await rewrite(client, tenant, seq, chainKey(keys))
        await signAnew(client, keys.signingKey)
      },
    }),
    // rollback
    () => ({
      kind: 'rollback',
      what: 'everything set back to an earlier checkpoint',
      ...inTree,
      apply: (client) => setBack(client, choose.of([0, ...wall.sizes.slice(0, -1)])),
    }),
    // wrong key
    () => ({
      kind: 'wrong-key',
      what: 'a key id that is not in the keyring',
      ...here,
      apply: sql(`UPDATE signet.links SET key_id = 'other' WHERE ${place}`),
    }),
    () => ({
      kind: 'wrong-key',
      what: 'a chain made with another key',
      wantTenant: tenant,
      wantSeq: 1,
      apply: (client) => rewrite(client, tenant, 1, createSecretKey(randomBytes(32))),
    }),
    () => ({
      kind: 'wrong-key',
      what: 'checkpoints signed by another',
      ...inTree,
      apply: (client) => signAnew(client, generateKeyPairSync('ed25519').privateKey),
    }),
  ]
}

function chainKey({ chainKeys }: WallKeys): KeyObject {
  return chainKeys.chainKey('chain-1')!.secret
}

function swapped(table: string, tenant: string, a: number, b: number): string {
  const move = (from: number, to: number): string =>
    `UPDATE signet.${table} SET seq = ${to} WHERE tenant = '${tenant}' AND seq = ${from}`
  return [move(a, 999_999), move(b, a), move(999_999, b)].join(';')
}

function invent(tenant: string, seq: number, hash: string, commits: string): string {
  return `CREATE TEMP TABLE invented ON COMMIT DROP AS SELECT * FROM signet.links WHERE tenant = '${tenant}' AND seq = ${seq};
    CREATE TEMP TABLE invented_record ON COMMIT DROP AS SELECT * FROM signet.records WHERE tenant = '${tenant}' AND seq = ${seq};
    ${shift(tenant, seq, 1)};
    UPDATE invented SET event_id = gen_random_uuid(), hash = ${hash}, commitment = ${commits};
    INSERT INTO signet.links SELECT * FROM invented; INSERT INTO signet.records SELECT * FROM invented_record`
}

/** With a record that its commitment fits: only the key is missing. */
async function inventWhole(client: pg.Client, tenant: string, seq: number): Promise<void> {
  const [record] = await readRecords(client as unknown as Client, tenant, { after: seq - 1, to: seq, of: null })
  const opened = openRecord(record!.bytes)
  const bytes = sealRecord({ ...opened, event: { ...opened.event, event_id: randomUUID() } })
  const committed = commitment(record!.nonce, bytes).toString('hex')
  await client.query(invent(tenant, seq, "sha256('y')", `'\\x${committed}'`))
  await client.query(`UPDATE signet.records SET bytes = $1 WHERE tenant = $2 AND seq = $3`, [bytes, tenant, seq])
}

function copied(tenant: string, of: number, to: number): string {
  return `CREATE TEMP TABLE copied ON COMMIT DROP AS SELECT * FROM signet.links WHERE tenant = '${tenant}' AND seq = ${of};
    CREATE TEMP TABLE copied_record ON COMMIT DROP AS SELECT * FROM signet.records WHERE tenant = '${tenant}' AND seq = ${of};
    ${shift(tenant, to, 1)};
    UPDATE copied SET event_id = gen_random_uuid(), seq = ${to}; UPDATE copied_record SET seq = ${to};
    INSERT INTO signet.links SELECT * FROM copied; INSERT INTO signet.records SELECT * FROM copied_record`
}

function moved(from: string, seq: number, tenant: string, to: number): string {
  return both(
    (
      table,
    ) => `CREATE TEMP TABLE moved_${table} ON COMMIT DROP AS SELECT * FROM signet.${table} WHERE tenant = '${from}' AND seq = ${seq};
    UPDATE moved_${table} SET tenant = '${tenant}', seq = ${to}; INSERT INTO signet.${table} SELECT * FROM moved_${table}`,
  )
}

/** Makes links and records from a number on anew, other than they were and sound among themselves, as who has `key` can. */
async function rewrite(client: pg.Client, tenant: string, from: number, key: KeyObject): Promise<void> {
  const reading = client as unknown as Client
  const range = { after: from - 1, to: Number.MAX_SAFE_INTEGER }
  const links = await readLinks(reading, tenant, { ...range, limit: 1_000_000, traceHmac: null })
  const records = await readRecords(reading, tenant, { ...range, of: null })
  const [before] = await readLinks(reading, tenant, { after: from - 2, to: from - 1, limit: 1, traceHmac: null })
  const firsts = [...Map.groupBy(links, (link) => link.trace_hmac.toString('hex')).values()].map(([first]) => first!)
  const found = await readTraceHeads(reading, tenant, firsts)
  const heads = new Map(firsts.map((link, index) => [link.trace_hmac.toString('hex'), found[index] ?? NO_PREDECESSOR]))
  let previousHash: Buffer = before?.hash ?? NO_PREDECESSOR
  for (const [index, link] of links.entries()) {
    const { nonce, bytes: former } = records[index]!
    const record = openRecord(former)
    const bytes = sealRecord({ ...record, event: { ...record.event, latency_ms: record.event.latency_ms + 1 } })
    const committed = commitment(nonce, bytes)
    const trace = link.trace_hmac.toString('hex')
    const previousTraceHash = heads.get(trace) ?? NO_PREDECESSOR
    const { seq } = link
    const hash = linkHash({ key, previousHash, previousTraceHash, commitment: committed, seq, tenant })
    heads.set(trace, hash)
    await client.query(
      'UPDATE signet.links SET commitment = $3, hash = $4, previous_hash = $5, previous_trace_hash = $6 WHERE tenant = $1 AND seq = $2',
      [tenant, seq, committed, hash, previousHash, previousTraceHash],
    )
    await client.query('UPDATE signet.records SET bytes = $3 WHERE tenant = $1 AND seq = $2', [tenant, seq, bytes])
    previousHash = hash
  }
}

/** Makes tiles and checkpoints from the links as they are now, as who has the signing key can. */
async function signAnew(client: pg.Client, privateKey: KeyObject): Promise<void> {
  const { rows: leaves } = await client.query<{ leaf: Buffer }>(
    `SELECT l.commitment || l.hash AS leaf FROM signet.tree_runs r JOIN signet.links l ON l.tenant = r.tenant AND l.seq BETWEEN r.first_seq AND r.first_seq + r.count - 1
      ORDER BY r.first_leaf, l.seq`,
  )
  const { rows } = await client.query<{ size: string }>('SELECT size FROM signet.tree_checkpoints')
  const sizes = new Set(rows.map(({ size }) => Number(size)))
  const tree = new TreeRebuild()
  for (const { leaf } of leaves) {
    const full: Parameters<Parameters<TreeRebuild['add']>[1]>[0][] = []
    tree.add(leafHash(leaf), (tile) => full.push(tile))
    for (const { level, index, hashes, root } of full)
      await client.query('UPDATE signet.tree_tiles SET hashes = $3, root = $4 WHERE level = $1 AND index = $2', [
        level,
        index,
        hashes,
        root,
      ])
    if (!sizes.has(tree.size)) continue
    const { size, root } = tree
    const note = signCheckpoint({ origin: ORIGIN, size, root, extensions: [] }, privateKey)
    await client.query('UPDATE signet.tree_checkpoints SET root = $2, note = $3 WHERE size = $1', [size, root, note])
  }
}

/** Takes away all that came after a checkpoint, everywhere, as restoring a backup does. */
async function setBack(client: pg.Client, size: number): Promise<void> {
  const kept = `coalesce((SELECT max(r.first_seq + r.count - 1) FROM signet.tree_runs r WHERE r.tenant = x.tenant AND r.first_leaf < ${size}), 0)`
  for (const table of ['links', 'records', 'compliance_stamps'])
    await client.query(`DELETE FROM signet.${table} x WHERE x.seq > ${kept}`)
  await client.query(
    `DELETE FROM signet.tree_runs WHERE first_leaf >= ${size}; DELETE FROM signet.tree_checkpoints WHERE size > ${size};
     DELETE FROM signet.tree_tiles WHERE (index + 1) * power(256, level + 1) > ${size}`,
  )
}
