import { randomBytes, randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { SealKey } from '#core/seal/cipher.ts'
import { unwrapSubjectKey, wrapIndexKey, wrapSubjectKey } from '#core/seal/wrap.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import { Wrapping } from './master.ts'

const TENANT = 'acme'
const NOW = new Date('2026-11-25T12:00:00.000Z')
const former = new SealKey(Buffer.alloc(32, 1))
const next = new SealKey(Buffer.alloc(32, 2))
const validity = { notBefore: '', notAfter: '', revokedAt: null }

function wrappingWith(masters: ReadonlyMap<string, SealKey>): Wrapping {
  const keyOf = (keyId: string) => {
    const key = masters.get(keyId)
    return key === undefined ? undefined : { keyId, key, ...validity }
  }
  return new Wrapping({
    masters: { sealMaster: keyOf, activeSealMaster: () => keyOf('next') ?? null },
    clock: () => NOW,
    randomBytes,
  })
}

/** Rows under the former master key, of which the first is damaged; what is written to them, by id. */
function workDatabase() {
  const ids = [randomUUID(), randomUUID()]
  const rows = ids.map((subject_id, index) => ({
    tenant: TENANT,
    subject_id,
    master_key_id: 'former',
    wrapped_key:
      index === 0
        ? Buffer.alloc(72, 9)
        : wrapSubjectKey(former, TENANT, subject_id, new SealKey(Buffer.alloc(32, 3)), randomBytes(24)),
  }))
  const indexKeys = [
    { tenant: 'broken', master_key_id: 'former', wrapped_index_key: Buffer.alloc(72, 9) },
    {
      tenant: TENANT,
      master_key_id: 'former',
      wrapped_index_key: wrapIndexKey(former, TENANT, new SealKey(Buffer.alloc(32, 4)), randomBytes(24)),
    },
  ]
  const written: unknown[][] = []
  const pool = {
    query(text: string, values: unknown[]) {
      if (text.startsWith('UPDATE')) written.push(values)
      if (!text.startsWith('SELECT')) return Promise.resolve({ rows: [] })
      return Promise.resolve({ rows: text.includes('signet.subjects') ? rows : indexKeys })
    },
  } as unknown as Pool
  return { pool, ids, written }
}

describe('putting keys under another master key', () => {
  it('goes on past what is damaged', async () => {
    const { pool, ids, written } = workDatabase()
    const wrapping = wrappingWith(
      new Map([
        ['former', former],
        ['next', next],
      ]),
    )
    expect(await wrapping.rewrap(pool, 500)).toBe(2)
    expect(written.map(([tenant, id]) => [tenant, id])).toEqual([
      [TENANT, expect.any(Buffer)],
      [TENANT, ids[1]],
    ])
    const key = unwrapSubjectKey(next, TENANT, ids[1] ?? '', written[1]?.at(-1) as Buffer)
    expect(key.export()).toEqual(Buffer.alloc(32, 3))
  })

  it('says so where the former one is not at hand', async () => {
    const { pool } = workDatabase()
    await expect(wrappingWith(new Map([['next', next]])).rewrap(pool, 500)).rejects.toMatchObject({
      code: 'SEAL_KEY_UNAVAILABLE',
    })
  })
})
