import { createPrivateKey, createPublicKey, randomUUID, type KeyObject } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { openCheckpoint, type TreeHead } from '#core/tree/checkpoint.ts'
import { leafHash } from '#core/tree/hash.ts'
import { NOTE_ALGORITHM, noteKeyId, parseVerifier, type NoteVerifier } from '#core/tree/note.ts'
import { consistencyProof, rootHash, verifyConsistency, verifyInclusion } from '#core/tree/proof.ts'
import { newTiles, tileNodes, tilePath, type Tile } from '#core/tree/tile.ts'
import { readCheckpoint, withTree } from '#ledger/store/tree.ts'
import { Integrator } from '#ledger/tree/integrator.ts'
import { inclusionOf, tileBytes } from '#ledger/tree/reader.ts'
import { createPool, type Pool } from '#runtime/postgres/transaction.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildLines, createClient } from '#test/support/producer.ts'

/** That of the ledger under test, which integrates as well: whoever comes first. */
const ORIGIN = 'signet-ledger'

let stack: LedgerStack
let wall: Pool
let admin: pg.Client
let signingKey: KeyObject
let log: NoteVerifier

beforeAll(async () => {
  stack = await startLedgerStack()
  wall = createPool({ url: stack.wall.loginUrl, size: 4, applicationName: 'tree test' })
  admin = new pg.Client(stack.wall.adminUrl)
  await admin.connect()
  const ack = stack.keyring.keys.find((key) => key.use === 'ack')
  signingKey = createPrivateKey({ key: Buffer.from(ack?.private_key ?? '', 'base64url'), format: 'der', type: 'pkcs8' })
  const publicKey = createPublicKey(signingKey)
  log = {
    name: ORIGIN,
    algorithm: NOTE_ALGORITHM.ed25519,
    keyId: noteKeyId(ORIGIN, NOTE_ALGORITHM.ed25519, publicKey),
    publicKey,
  }
})
afterAll(async () => {
  await admin.end()
  await wall.end()
  await stack.stop()
})

function integrator(): Integrator {
  return new Integrator({ wall, origin: ORIGIN, signingKey: () => signingKey, clock: () => new Date() })
}

async function append(identity: string, events: number): Promise<void> {
  const session = randomUUID()
  for (let first = 1; first <= events; first += 500) {
    await createClient(stack.ledgers[0]?.url ?? '', stack.token(identity)).append(
      buildLines(session, first, Math.min(500, events - first + 1)),
    )
  }
}

async function integrateAll(by = integrator()): Promise<TreeHead> {
  for (;;) {
    const round = await by.round()
    if (round.outcome === 'nothing') break
  }
  return signedHead()
}

/** A round of its own: not while the ledger has the tree. */
async function turn(by: Integrator): ReturnType<Integrator['round']> {
  for (;;) {
    const round = await by.round()
    if (round.outcome !== 'busy') return round
  }
}

async function signedHead(): Promise<TreeHead> {
  const checkpoint = await withTree(wall, (client) => readCheckpoint(client))
  return openCheckpoint(checkpoint?.note ?? '', log).head
}

/** The tree as an outsider sees it: tiles by path, and nothing else. */
async function fetchTiles(
  oldSize: number,
  size: number,
  into = new Map<string, Buffer>(),
): Promise<Map<string, Buffer>> {
  for (const tile of newTiles(oldSize, size)) into.set(tilePath(tile), await fetchTile(tile))
  return into
}

function fetchTile(tile: Tile): Promise<Buffer> {
  return withTree(wall, (client) => tileBytes(client, tile))
}

function nodesOf(size: number, tiles: ReadonlyMap<string, Buffer>) {
  return tileNodes(size, (tile) => tiles.get(tilePath(tile)) ?? Buffer.alloc(0))
}

describe('the tree over all chains', () => {
  test('grows over two tenants; every size continues the one before, by tiles alone', async () => {
    const heads: TreeHead[] = []
    const tiles = new Map<string, Buffer>()
    for (const [acme, globex] of [
      [3, 2],
      [260, 1],
      [700, 300],
    ] as const) {
      await append('proxy', acme)
      await append('globex-proxy', globex)
      // A new integrator each time: the edge has to come out of the store.
      const head = await integrateAll()
      await fetchTiles(heads.at(-1)?.size ?? 0, head.size, tiles)
      heads.push(head)
      const read = nodesOf(head.size, tiles)
      expect(rootHash(head.size, read)).toEqual(head.root)
      for (const old of heads) {
        verifyConsistency({
          oldSize: old.size,
          oldRoot: old.root,
          size: head.size,
          root: head.root,
          path: consistencyProof(old.size, head.size, read),
        })
      }
    }
    const { rows } = await admin.query<{ count: string }>('SELECT count(*) FROM signet.links')
    expect(heads.at(-1)?.size).toBe(Number(rows[0]?.count))
  })

  test('entries are the links themselves, and give the hashes of the tiles', async () => {
    const { size } = await signedHead()
    const tile: Tile = { level: 'entries', index: 1, width: 256 }
    const entries = await fetchTile(tile)
    const leaves = Array.from({ length: 256 }, (_, i) => entries.subarray(i * 66, (i + 1) * 66))
    expect(leaves.every((leaf) => leaf.readUInt16BE(0) === 64)).toBe(true)
    expect(Buffer.concat(leaves.map((leaf) => leafHash(leaf.subarray(2))))).toEqual(
      await fetchTile({ level: 0, index: 1, width: 256 }),
    )
    const { rows } = await admin.query('SELECT 1 FROM signet.links WHERE commitment = $1 AND hash = $2', [
      leaves[7]!.subarray(2, 34),
      leaves[7]!.subarray(34),
    ])
    expect(rows).toHaveLength(1)
    expect(size).toBeGreaterThan(512)
  })

  test('each leaf is proved, and with another leaf’s bytes it is not', async () => {
    const head = await signedHead()
    for (const index of [0, 1, 255, 256, 300, head.size - 1]) {
      const { path, checkpoint } = await withTree(wall, (client) => inclusionOf(client, index))
      const [entry] = [await fetchTile({ level: 'entries', index: Math.floor(index / 256), width: (index % 256) + 1 })]
      const leaf = entry.subarray(-64)
      const claim = { index, size: checkpoint.size, leafHash: leafHash(leaf), root: head.root, path }
      verifyInclusion(claim)
      expect(() => verifyInclusion({ ...claim, leafHash: leafHash(Buffer.concat([leaf, leaf])) })).toThrow(
        /is not in the tree/,
      )
    }
  })

  test('four integrators and writers at once make one tree', async () => {
    const writing = Promise.all([append('proxy', 1_500), append('globex-proxy', 1_500), append('second', 700)])
    const done = new AbortController()
    const racing = Array.from({ length: 4 }, async () => {
      const own = integrator()
      while (!done.signal.aborted) await own.round()
    })
    await writing
    done.abort()
    await Promise.all(racing)
    const head = await integrateAll()
    const read = nodesOf(head.size, await fetchTiles(0, head.size))
    expect(rootHash(head.size, read)).toEqual(head.root)
    const { rows } = await admin.query<{ links: string; leaves: string }>(
      'SELECT (SELECT count(*) FROM signet.links) AS links, (SELECT sum(count) FROM signet.tree_runs) AS leaves',
    )
    expect(rows[0]?.leaves).toBe(rows[0]?.links)
    expect(head.size).toBe(Number(rows[0]?.links))
  }, 60_000)

  test('the ledger serves it: checkpoint, keys and tiles to everybody, a proof to the tenant', async () => {
    const ledger = stack.ledgers[0]?.url ?? ''
    const bearer = (name: string) => ({ headers: { authorization: `Bearer ${stack.token(name)}` } })
    const ack = await createClient(ledger, stack.token('proxy')).append(buildLines(randomUUID(), 1, 1))
    const eventId = ack.acks[0]?.event_id ?? ''
    const keys = (await (await fetch(`${ledger}/log/keys`)).text()).trimEnd().split('\n').map(parseVerifier)
    const proof = await vi.waitFor(
      async () => {
        const response = await fetch(`${ledger}/api/audit/logs/${eventId}/proof`, bearer('proxy'))
        expect(response.status).toBe(200)
        return (await response.json()) as Record<string, string> & { leaf_index: number; inclusion_path: string[] }
      },
      { timeout: 10_000, interval: 100 },
    )
    const { head } = openCheckpoint(proof['checkpoint'] ?? '', keys[0]!)
    expect(proof['commitment']).toBe(ack.acks[0]?.commitment)
    verifyInclusion({
      index: proof.leaf_index,
      size: head.size,
      root: head.root,
      leafHash: leafHash(Buffer.from(`${proof['commitment']}${proof['link_hash']}`, 'hex')),
      path: proof.inclusion_path.map((hash) => Buffer.from(hash, 'hex')),
    })
    expect((await fetch(`${ledger}/api/audit/logs/${eventId}/proof`, bearer('globex-proxy'))).status).toBe(404)
    expect((await fetch(`${ledger}/api/audit/logs/${eventId}/proof`)).status).toBe(401)
    const { head: served } = openCheckpoint(await (await fetch(`${ledger}/log/checkpoint`)).text(), keys[0]!)
    const tile = await fetch(`${ledger}/log/tile/0/000`)
    expect(tile.headers.get('cache-control')).toContain('immutable')
    expect(Buffer.from(await tile.arrayBuffer())).toEqual(await fetchTile({ level: 0, index: 0, width: 256 }))
    const last = newTiles(served.size - 1, served.size)[0]!
    expect((await fetch(`${ledger}/log/${tilePath(last)}`)).status).toBe(200)
    for (const path of ['tile/0/999', 'tile/7/000', 'tile/0/000.p/256', 'tile/..%2fcheckpoint']) {
      expect((await fetch(`${ledger}/log/${path}`)).status, path).toBe(404)
    }
  })

  test.each(['tree_runs', 'tree_tiles', 'tree_checkpoints'])('%s: nobody changes it', async (table) => {
    for (const statement of [`DELETE FROM signet.${table}`, `TRUNCATE signet.${table}`]) {
      await expect(admin.query(statement)).rejects.toMatchObject({ code: '42501' })
    }
  })

  test('another tenant’s runs and links stay unseen without saying “tree”', async () => {
    const client = await wall.connect()
    try {
      await client.query("BEGIN; SELECT set_config('signet.tenant', 'globex', true)")
      const { rows } = await client.query<{ tenant: string }>('SELECT DISTINCT tenant FROM signet.tree_runs')
      expect(rows).toEqual([{ tenant: 'globex' }])
      const added = client.query("INSERT INTO signet.tree_runs VALUES (9999999, 'globex', 9999999, 1)")
      await expect(added).rejects.toMatchObject({ code: '42501' })
    } finally {
      await client.query('ROLLBACK')
      client.release()
    }
  })
})

describe('what a superuser does behind the triggers', () => {
  /** Runs statements with all triggers off, and puts things back afterwards. */
  async function tampered(statements: string, check: () => Promise<void>): Promise<void> {
    await admin.query("BEGIN; SET LOCAL session_replication_role = 'replica'")
    await admin.query(
      `ALTER TABLE signet.links DISABLE TRIGGER ALL; ALTER TABLE signet.tree_checkpoints DISABLE TRIGGER ALL; ALTER TABLE signet.tree_runs DISABLE TRIGGER ALL; ALTER TABLE signet.tree_tiles DISABLE TRIGGER ALL`,
    )
    await admin.query(statements)
    await admin.query('COMMIT')
    await check()
  }

  test('a link changed in the last tile: the root that was signed no longer comes out', async () => {
    await append('proxy', 3)
    await integrateAll()
    await append('proxy', 1)
    const flip =
      "UPDATE signet.links SET commitment = set_byte(commitment, 0, get_byte(commitment, 0) # 1) WHERE tenant = 'acme' AND seq = (SELECT max(first_seq + count - 1) FROM signet.tree_runs WHERE tenant = 'acme')"
    await tampered(flip, async () => {
      await expect(turn(integrator())).rejects.toMatchObject({
        code: 'CHAIN_BROKEN',
        message: expect.stringContaining('do not give the root'),
      })
    })
    await tampered(flip, async () => {
      await expect(turn(integrator())).resolves.toMatchObject({ outcome: 'grown' })
    })
  })

  test('a hole in a chain: the tree stops before it', async () => {
    await append('globex-proxy', 3)
    const hole =
      "UPDATE signet.links SET tenant = 'gone' WHERE tenant = 'globex' AND seq = (SELECT max(seq) - 1 FROM signet.links WHERE tenant = 'globex')"
    await tampered(hole, async () => {
      await expect(turn(integrator())).rejects.toMatchObject({
        code: 'CHAIN_BROKEN',
        message: expect.stringContaining('is missing; the tree stops before it'),
      })
    })
    await tampered("UPDATE signet.links SET tenant = 'globex' WHERE tenant = 'gone'", async () => {
      await integrateAll()
    })
  })

  test('a tree that was set back is not signed over', async () => {
    const own = integrator()
    // The ledger may be faster: until one round was this integrator's, which then knows what was signed.
    let round = await turn(own)
    while (round.outcome !== 'grown') {
      await append('proxy', 1)
      round = await turn(own)
    }
    await append('proxy', 1)
    await tampered(`DELETE FROM signet.tree_checkpoints WHERE size >= ${round.size}`, async () => {
      await expect(turn(own)).rejects.toMatchObject({
        code: 'CHAIN_BROKEN',
        message: expect.stringContaining('was set back'),
      })
    })
  })
})
