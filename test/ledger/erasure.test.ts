import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import pg from 'pg'
import type { AuditEvent } from '#core/audit/event.ts'
import { startLedgerStack, type LedgerStack } from '../support/ledger.ts'
import { buildEvent, buildLines, createClient, lineOf, type LogItem } from '../support/producer.ts'
import { findInDatabase } from '../support/wall-files.ts'

type Missing = { path: string; why: string }
type Item = LogItem & { opened?: { event: AuditEvent; missing: Missing[] } }
type Receipt = {
  id: string
  subject: string
  state: string
  destroyed: { subject_id: string; wrapped_key_sha256: string; master_key_id: string }
  record: { event_id: string; seq: number } | null
}

const ALICE = 'alice.liddell@oxford.example'
let stack: LedgerStack
const client = (name: string, ledger = 0) => createClient(stack.ledgers[ledger]?.url ?? '', stack.token(name))
const erase = async (subject: string, ledger = 0, body: Record<string, unknown> = {}) => {
  const answer = await client('admin', ledger).post('/api/audit/erasures', JSON.stringify({ subject, ...body }))
  return { status: answer.status, body: (await answer.json()) as Receipt & { code?: string } }
}
const append = (events: readonly AuditEvent[], ledger = 0) => {
  const session = randomUUID()
  return client('proxy', ledger).append(events.map((event, index) => lineOf({ session, spool_seq: index + 1, event })))
}
const seen = async (event: AuditEvent, ledger = 0): Promise<Item> => {
  const [item] = (await client('officer', ledger).all(`&trace_id=${event.trace_id}`)) as Item[]
  if (item === undefined) throw new Error('no such event')
  return item
}
async function sql<T extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<T[]> {
  const admin = new pg.Client({ connectionString: stack.work.adminUrl })
  await admin.connect()
  try {
    return (await admin.query<T>(text, values)).rows
  } finally {
    await admin.end()
  }
}

let alices: AuditEvent
let shared: AuditEvent
let lines: string[]
let receipt: Receipt
beforeAll(async () => {
  stack = await startLedgerStack({
    identities: [
      { name: 'proxy', tenant: 'acme', producer_id: 'demo/api', scopes: ['audit:write', 'audit:read'] },
      { name: 'officer', tenant: 'acme', scopes: ['audit:read', 'audit:personal'] },
      { name: 'auditor', tenant: 'acme', scopes: ['audit:read'] },
      { name: 'admin', tenant: 'acme', scopes: ['audit:admin'] },
      { name: 'globex-admin', tenant: 'globex', scopes: ['audit:admin'] },
    ],
    ledgers: 2,
  })
  alices = buildEvent({ actor: ALICE, before: { phone: '+44 1865 1' }, context: { n: 1, note: `of ${ALICE}` } })
  shared = buildEvent({ actor: 'user:dodgson', context: { note: `to ${ALICE}`, phone: '+44 1865 2' } })
  const session = randomUUID()
  lines = [alices, shared].map((event, index) => lineOf({ session, spool_seq: index + 1, event }))
  await client('proxy').append(lines)
})
afterAll(() => stack.stop())

describe('erasing a person', () => {
  it('is for who may: not for readers, and of the own tenant only', async () => {
    const body = JSON.stringify({ subject: ALICE })
    expect((await client('officer').post('/api/audit/erasures', body)).status).toBe(403)
    expect((await client('globex-admin').post('/api/audit/erasures', body)).status).toBe(404)
    const { actor } = (await seen(alices)).event
    expect((await client('globex-admin').post('/api/audit/erasures', JSON.stringify({ subject: actor }))).status).toBe(
      404,
    )
    expect((await seen(alices)).opened?.event.actor).toBe(ALICE)
  })

  it.each([
    { body: {}, want: 'REQUEST_INVALID' },
    { body: { subject: '' }, want: 'REQUEST_INVALID' },
    { body: { subject: 'x', all: true }, want: 'REQUEST_INVALID' },
    { body: { subject: 'user:nobody' }, want: 'NOT_FOUND' },
    { body: { subject: `subject:${randomUUID()}` }, want: 'NOT_FOUND' },
  ])('refuses $body with $want', async ({ body, want }) => {
    const answer = await client('admin').post('/api/audit/erasures', JSON.stringify(body))
    expect(((await answer.json()) as { code: string }).code).toBe(want)
  })

  it('waits for legal holds', async () => {
    const held = await client('admin').post('/api/audit/holds', JSON.stringify({ reason: 'a lawsuit' }))
    expect(held.status).toBeLessThan(300)
    const { id } = (await held.json()) as { id: string }
    const { status, body } = await erase(ALICE)
    expect([status, body.code]).toEqual([423, 'LEGAL_HOLD'])
    expect((await seen(alices)).opened?.missing).toEqual([])
    const released = await fetch(`${stack.ledgers[0]?.url}/api/audit/holds/${id}?reason=over`, {
      method: 'DELETE',
      headers: client('admin').headers,
    })
    expect(released.status).toBeLessThan(300)
  })

  it('destroys the key, and gives a receipt that is in the chain', async () => {
    const before = (await seen(alices, 1)).event
    const [wrapped] = await sql<{ digest: string }>(
      "SELECT encode(sha256(wrapped_key), 'hex') AS digest FROM signet.subjects WHERE subject_id = $1",
      [before.actor.slice(8)],
    )
    const { status, body } = await erase(ALICE, 0, { reason: 'GDPR article 17' })
    expect([status, body.state]).toEqual([201, 'recorded'])
    receipt = body
    // At once, on the other replica too.
    const there = await seen(alices, 1)
    expect(there.event).toEqual(before)
    expect(there.opened?.event.actor).toBe(before.actor)
    expect(there.opened?.missing.map(({ path: place, why }) => `${place} ${why}`)).toEqual([
      '/actor erased',
      '/before/phone erased',
      '/context/note erased',
    ])
    expect(receipt.destroyed).toMatchObject({
      what: 'data-subject-key',
      subject_id: before.actor.slice(8),
      master_key_id: 'seal-1',
      wrapped_key_sha256: wrapped?.digest,
    })
    const [record] = (await client('auditor').all('&event_type=audit.erasure')) as Item[]
    expect(record).toMatchObject({
      seq: receipt.record?.seq,
      event: {
        event_id: receipt.record?.event_id,
        resource_type: 'subject',
        resource_id: before.actor,
        context: {
          erasure_id: receipt.id,
          requested_by: 'admin',
          reason: 'GDPR article 17',
          destroyed: receipt.destroyed,
        },
      },
    })
    expect(record?.event.context?.['records_as_actor']).toEqual({ value: 1, exact: true })
  })

  it('makes unreadable what is about others too where it names the person, and nothing else', async () => {
    const { opened } = await seen(shared)
    expect(opened?.event).toMatchObject({
      actor: 'user:dodgson',
      context: { phone: '+44 1865 2', note: { sealed: 'v1' } },
    })
    expect(opened?.missing).toMatchObject([{ path: '/context/note', why: 'erased' }])
  })

  it('leaves the chain whole', async () => {
    for (const ledger of [0, 1]) expect(await client('auditor', ledger).verify()).toMatchObject({ ok: true })
  })

  it('leaves no trace of the name, key or index', async () => {
    const [row] = await sql('SELECT * FROM signet.subjects WHERE subject_id = $1', [receipt.destroyed.subject_id])
    expect(row).toMatchObject({ name_index: null, master_key_id: null, wrapped_key: null, sealed_name: null })
    const [done] = await sql('SELECT name_index FROM signet.erasures WHERE id = $1', [receipt.id])
    expect(done).toEqual({ name_index: null })
    expect((await client('officer').all(`&actor=${encodeURIComponent(ALICE)}`)).length).toBe(0)
    for (const database of ['wall', 'work'] as const)
      expect(
        await findInDatabase({ database: stack[database], dataDir: path.join(stack.dir, database) }, [
          ALICE,
          '+44 1865',
        ]),
      ).toEqual([])
  })

  it('can be looked up, and asked for again by the reference', async () => {
    expect(await client('admin', 1).get(`/api/audit/erasures/${receipt.id}`)).toEqual(receipt)
    expect((await erase(receipt.subject, 1)).body).toEqual(receipt)
    expect((await erase(ALICE)).status).toBe(404)
    const other = await fetch(`${stack.ledgers[0]?.url}/api/audit/erasures/${receipt.id}`, {
      headers: client('globex-admin').headers,
    })
    expect(other.status).toBe(404)
    expect(await client('auditor').all('&event_type=audit.erasure')).toHaveLength(1)
  })

  it('acknowledges a retry of what was recorded, and does not know the person again for it', async () => {
    const head = (await client('auditor').verify()).head.seq
    const answer = await client('proxy', 1).append(lines)
    expect(answer.acks.map(({ seq }) => seq)).toEqual([2, 3])
    const other = await append([alices])
    expect(other.refused.map(({ code }) => code)).toEqual(['EVENT_ID_CONFLICT'])
    expect((await client('auditor').all(`&trace_id=${alices.trace_id}`)).length).toBe(1)
    expect((await erase(ALICE)).status).toBe(404)
    expect((await client('auditor').verify()).head.seq).toBeGreaterThan(head)
  })

  it('gives the person a new reference when it comes again, on every replica within the bound', async () => {
    await append([buildEvent({ actor: 'user:mabel' })], 0)
    await append([buildEvent({ actor: 'user:mabel' })], 1)
    const [, before] = await client('auditor').all('&actor=user:mabel')
    expect((await erase('user:mabel', 0)).status).toBe(201)
    const at = Date.now()
    const actors = async (ledger: number): Promise<string> => {
      const event = buildEvent({ actor: 'user:mabel' })
      await append([event], ledger)
      return (await seen(event, ledger)).event.actor
    }
    expect(await actors(0)).not.toBe(before?.event.actor)
    await expect.poll(() => actors(1), { timeout: 10_000, interval: 50 }).toBe(await actors(0))
    // A second, and what the machine took for the last round.
    expect(Date.now() - at).toBeLessThan(5_000)
  })

  it.each([
    { what: 'the name itself', reason: 'asked by user:lory' },
    { what: 'an address', reason: 'letter of lory@wonderland.example' },
  ])('refuses a reason that would keep $what for ever', async ({ reason }) => {
    const event = buildEvent({ actor: 'user:lory' })
    await append([event])
    const { actor } = (await seen(event)).event
    for (const subject of ['user:lory', actor]) {
      const { status, body } = await erase(subject, 0, { reason })
      expect([status, body.code]).toEqual([400, 'REQUEST_INVALID'])
    }
    expect((await seen(event)).opened?.event.actor).toBe('user:lory')
    expect((await erase(actor, 0, { reason: 'case 4711' })).status).toBe(201)
  })

  it('erases who came again while the receipt of before was still waiting', async () => {
    const [first, second] = [buildEvent({ actor: 'user:eaglet' }), buildEvent({ actor: 'user:eaglet' })]
    await append([first])
    const id = (await seen(first)).event.actor.slice(8)
    const [kept] = await sql<{ ix: string }>(
      "SELECT encode(name_index, 'hex') AS ix FROM signet.subjects WHERE subject_id = $1",
      [id],
    )
    await erase('user:eaglet')
    await append([second])
    expect((await seen(second)).opened?.event.actor).toBe('user:eaglet')
    // As it is between destroying and recording.
    await sql(
      "UPDATE signet.erasures SET event_id = NULL, seq = NULL, recorded_at = NULL, name_index = decode($2, 'hex') WHERE subject_id = $1",
      [id, kept?.ix],
    )
    expect((await erase('user:eaglet')).status).toBe(201)
    for (const event of [first, second])
      expect((await seen(event)).opened?.missing.map(({ why }) => why)).toEqual(['erased'])
    expect((await erase('user:eaglet')).status).toBe(404)
  })

  it('happens once when two ask at a time', async () => {
    await append([buildEvent({ actor: 'user:dinah' })])
    const answers = await Promise.all([0, 1, 0, 1].map((ledger) => erase('user:dinah', ledger)))
    const done = answers.filter(({ status }) => status === 201)
    expect(done.length).toBeGreaterThan(0)
    expect(new Set(done.map(({ body }) => body.id)).size).toBe(1)
    expect(answers.every(({ status }) => status === 201 || status === 404)).toBe(true)
    const records = await client('auditor').all(`&event_type=audit.erasure&resource_id=${done[0]?.body.subject}`)
    expect(records).toHaveLength(1)
  })
})

describe('what happens to the work database', () => {
  it('a tampered key opens nothing, says so, and its person can be erased', async () => {
    const event = buildEvent({ actor: 'user:hatter', context: { phone: '1' } })
    const other = buildEvent({ actor: 'user:hare' })
    await append([event, other])
    const { actor } = (await seen(event)).event
    await sql(
      'UPDATE signet.subjects SET wrapped_key = set_byte(wrapped_key, 30, get_byte(wrapped_key, 30) # 1) WHERE subject_id = $1',
      [actor.slice(8)],
    )
    expect((await seen(event)).opened?.missing).toMatchObject([
      { path: '/actor', why: 'damaged' },
      { path: '/context/phone', why: 'damaged' },
    ])
    expect((await seen(other)).opened?.event.actor).toBe('user:hare')
    // One that is another subject's key does no better.
    await sql(
      'UPDATE signet.subjects SET (wrapped_key, sealed_name) = (SELECT wrapped_key, sealed_name FROM signet.subjects WHERE subject_id = $2) WHERE subject_id = $1',
      [actor.slice(8), (await seen(other)).event.actor.slice(8)],
    )
    expect((await seen(event)).opened?.event.actor).toBe(actor)
    // What has that name is not taken in under a key that nobody has, until the row is gone.
    await expect
      .poll(
        async () => (await client('proxy').ingest(buildLines(randomUUID(), 1, 1, { actor: 'user:hatter' }))).status,
        { timeout: 10_000 },
      )
      .toBe(503)
    expect((await erase(actor)).status).toBe(201)
    expect((await append([buildEvent({ actor: 'user:hatter' })])).acks).toHaveLength(1)
  })

  it('a key that a restore brings back is destroyed again, and its receipt stays one', async () => {
    const event = buildEvent({ actor: 'user:duchess' })
    await append([event])
    const saved = await sql<{ row: string }>('SELECT s::text AS row FROM signet.subjects s WHERE subject_id = $1', [
      (await seen(event)).event.actor.slice(8),
    ])
    const { body } = await erase('user:duchess')
    await sql('DELETE FROM signet.erasures WHERE id = $1', [body.id])
    await sql('DELETE FROM signet.subjects WHERE subject_id = $1', [body.destroyed.subject_id])
    await sql('INSERT INTO signet.subjects SELECT ($1::text::signet.subjects).*', [saved[0]?.row])
    expect((await seen(event)).opened?.event.actor).toBe('user:duchess')
    const again = await stack.startLedger()
    await expect
      .poll(async () => (await seen(event)).opened?.missing.map(({ why }) => why), { timeout: 20_000 })
      .toEqual(['erased'])
    expect(await (await fetch(`${again.url}/metrics`)).text()).toMatch(/signet_ledger_erasures_repeated_total 1\b/)
    expect(again.output()).toMatch(/destroyed again/)
    await again.stop()
  })

  it('a receipt that a crash kept back is written by whoever comes next', async () => {
    await append([buildEvent({ actor: 'user:gryphon' })])
    const { body } = await erase('user:gryphon')
    // As it is between destroying and recording; the receipt's id is that of the erasure.
    await sql('UPDATE signet.erasures SET event_id = NULL, seq = NULL, recorded_at = NULL WHERE id = $1', [body.id])
    expect(await client('admin').get(`/api/audit/erasures/${body.id}`)).toMatchObject({
      state: 'destroyed',
      record: null,
    })
    const next = await stack.startLedger()
    await expect
      .poll(() => client('admin').get<Receipt>(`/api/audit/erasures/${body.id}`), { timeout: 20_000 })
      .toEqual(body)
    await next.stop()
    expect(await client('auditor').all(`&event_type=audit.erasure&resource_id=${body.subject}`)).toHaveLength(1)
  })

  it('erased is erased after a restart', async () => {
    await stack.ledgers[0]?.stop()
    const restarted = await stack.startLedger()
    const officer = createClient(restarted.url, stack.token('officer'))
    const [item] = (await officer.all(`&trace_id=${alices.trace_id}`)) as Item[]
    expect(item?.opened?.missing.map(({ why }) => why)).toEqual(['erased', 'erased', 'erased'])
    expect((await officer.verify()).ok).toBe(true)
  })

  it('lost as a whole, it takes all names with it and nothing of the chain', async () => {
    const event = buildEvent({ actor: 'user:caterpillar' })
    await append([event], 1)
    const sealed = (await seen(event, 1)).event
    await sql('TRUNCATE signet.subjects, signet.seal_tenants, signet.erasures')
    const fresh = await stack.startLedger()
    const officer = createClient(fresh.url, stack.token('officer'))
    const [item] = (await officer.all(`&trace_id=${event.trace_id}`)) as Item[]
    expect(item?.event).toEqual(sealed)
    expect(item?.opened?.missing).toMatchObject([{ path: '/actor', why: 'unknown' }])
    expect(await officer.verify()).toMatchObject({ ok: true })
    const proxy = createClient(fresh.url, stack.token('proxy'))
    await proxy.append(buildLines(randomUUID(), 1, 1, { actor: 'user:caterpillar' }))
    const [next] = (await officer.all('&actor=user:caterpillar')) as Item[]
    expect(next?.opened?.event.actor).toBe('user:caterpillar')
    expect(next?.event.actor).not.toBe(sealed.actor)
    // No log of any process has a name.
    for (const ledger of stack.ledgers) expect(ledger.output()).not.toMatch(/liddell|user:(?:hatter|duchess|gryphon)/)
    expect(await readFile(stack.keyringFile, 'utf8')).toContain('seal-master')
  })
})
