import { randomInt, randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildLines, createClient, type VerifyAnswer } from '#test/support/producer.ts'

/**
 * 64 writers over 4 ledger processes on one wall. `SIGNET_WRITER_EVENTS` says how many events in all: 200,000 is the figure of
 * docs/performance.md; every batch goes to whichever process, and one in ten is sent twice at once.
 */
const WRITERS = 64
const PROCESSES = 4
const BATCH = 50
const EVENTS = Number(process.env['SIGNET_WRITER_EVENTS'] ?? 12_800)
const TENANTS = ['acme', 'globex', 'initech', 'umbrella']

let stack: LedgerStack
beforeAll(async () => {
  const identities = TENANTS.flatMap((tenant) =>
    ['api', 'web'].map((producer) => ({
      name: `${tenant}-${producer}`,
      tenant,
      producer_id: `demo/${producer}`,
      scopes: ['audit:write', 'audit:read'],
    })),
  )
  stack = await startLedgerStack({ identities, ledgers: PROCESSES })
})
afterAll(() => stack?.stop())

test(
  `${WRITERS} writers, ${PROCESSES} processes, ${EVENTS} events: no fork, no gap, nothing twice, no false alarm`,
  async () => {
    const acknowledged = new Map<string, { tenant: string; seq: number }>()
    const faults: string[] = []
    const batches = Math.ceil(EVENTS / WRITERS / BATCH)
    const anyClient = (name: string) => createClient(stack.ledgers[randomInt(PROCESSES)]!.url, stack.token(name))

    async function write(writer: number): Promise<void> {
      const tenant = TENANTS[writer % TENANTS.length] as string
      const name = `${tenant}-${writer % 8 < 4 ? 'api' : 'web'}`
      const session = randomUUID()
      for (let batch = 0; batch < batches; batch++) {
        const lines = buildLines(session, batch * BATCH + 1, BATCH, { actor: 'service:writer' })
        const answers = await Promise.all([
          anyClient(name).append(lines),
          ...(randomInt(10) === 0 ? [anyClient(name).append(lines)] : []),
        ])
        for (const { acks, refused } of answers) {
          if (refused.length > 0) faults.push(`refused: ${JSON.stringify(refused[0])}`)
          for (const { event_id: id, seq } of acks) {
            const before = acknowledged.get(id)
            if (before !== undefined && before.seq !== seq)
              faults.push(`${id} is acknowledged at ${before.seq} and ${seq}`)
            acknowledged.set(id, { tenant, seq })
          }
        }
      }
    }
    const startedAt = performance.now()
    await Promise.all(Array.from({ length: WRITERS }, (_, writer) => write(writer)))
    const seconds = (performance.now() - startedAt) / 1000
    expect(faults.slice(0, 3)).toEqual([])
    expect(acknowledged.size).toBe(WRITERS * batches * BATCH)
    process.stdout.write(
      `   ${acknowledged.size} events in ${seconds.toFixed(1)} s, ${Math.round(acknowledged.size / seconds)}/s\n`,
    )

    const admin = new pg.Client(stack.wall.adminUrl)
    await admin.connect()
    try {
      for (const tenant of TENANTS) {
        // No number is left out, none is there twice, and each link names the one before.
        const { rows } = await admin.query(
          `SELECT count(*)::int AS links, max(seq)::int AS head, count(DISTINCT event_id)::int AS events,
             count(*) FILTER (WHERE previous_hash <> coalesce(before, decode(repeat('00', 32), 'hex')))::int AS forks
           FROM (SELECT *, lag(hash) OVER (ORDER BY seq) AS before FROM signet.links WHERE tenant = $1) l`,
          [tenant],
        )
        const [{ links, head, events, forks }] = rows
        expect([tenant, forks, events, head]).toEqual([tenant, 0, links, links])
        const { rows: placed } = await admin.query('SELECT event_id, seq::int FROM signet.links WHERE tenant = $1', [
          tenant,
        ])
        const places = new Map(placed.map((row) => [row.event_id as string, row.seq as number]))
        const lost = [...acknowledged].filter(([id, ack]) => ack.tenant === tenant && places.get(id) !== ack.seq)
        expect([tenant, lost.slice(0, 3)]).toEqual([tenant, []])
      }
    } finally {
      await admin.end()
    }

    for (const tenant of TENANTS) {
      const { url } = stack.ledgers[0]!
      const verify = async (): Promise<VerifyAnswer & { tree?: { not_yet_proven: number } }> =>
        (
          await fetch(`${url}/api/audit/verify`, {
            headers: { authorization: `Bearer ${stack.token(`${tenant}-api`)}` },
          })
        ).json() as never
      // The tree follows the chains by itself.
      await expect.poll(async () => (await verify()).tree?.not_yet_proven, { timeout: 60_000, interval: 500 }).toBe(0)
      expect(await verify()).toMatchObject({ ok: true })
    }
    for (const { url } of stack.ledgers) {
      const metrics = await (await fetch(`${url}/metrics`)).text()
      expect(
        metrics.split('\n').filter((line) => /^signet_ledger_(verification|tree)_failures_total.* [1-9]/.test(line)),
      ).toEqual([])
    }
  },
  EVENTS / 100 + 300_000,
)
