import { createHash, randomUUID } from 'node:crypto'
import { readdir, writeFile } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import path from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { FIRST_PASSWORD, startGovernanceStack, type Called, type GovernanceStack } from '#test/support/governance.ts'
import { buildEvent, buildStamp, createClient, lineOf, stampHashOf } from '#test/support/producer.ts'
import { startObjectStore, type TestObjectStore } from '#test/support/object-store.ts'

const BUCKET = 'signet-governance-evidence'
const PDF = Buffer.from('%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF\n')
const MAX_BYTES = 64 * 1024

let stack: GovernanceStack
let store: TestObjectStore
let owner: pg.Client
beforeAll(async () => {
  store = await startObjectStore()
  await store.createBucket(BUCKET, { lock: false })
  stack = await startGovernanceStack({
    env: {
      SIGNET_EVIDENCE_ENDPOINT: store.endpoint,
      SIGNET_EVIDENCE_MAX_BYTES: String(MAX_BYTES),
      AWS_ACCESS_KEY_ID: store.credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: store.credentials.secretAccessKey,
    },
  })
  owner = new pg.Client(stack.adminUrl)
  await owner.connect()
})
afterAll(async () => {
  await owner?.end()
  await stack?.stop()
  await store?.stop()
})

const get = (url: string, token?: string): Promise<Called> => stack.call('acme', 'GET', url, undefined, token)
const send = (method: string, url: string, body?: unknown): Promise<Called> => stack.call('acme', method, url, body)
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

type Upload = { readonly type?: string | null; readonly query?: Record<string, string>; readonly token?: string }
async function upload(
  bytes: Buffer,
  { type = 'application/pdf', query = {}, token = stack.token('acme') }: Upload = {},
): Promise<Called> {
  const response = await fetch(
    `${stack.process().url}/api/v1/evidence?${new URLSearchParams({ name: 'Minutes', ...query }).toString()}`,
    {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, ...(type === null ? {} : { 'content-type': type }) },
      body: new Uint8Array(bytes),
    },
  )
  return { status: response.status, body: await response.json(), headers: response.headers }
}
async function download(id: string): Promise<Response> {
  const headers = { authorization: `Bearer ${stack.token('acme')}` }
  return fetch(`${stack.process().url}/api/v1/evidence/${id}/file`, { headers })
}
async function objects(): Promise<string[]> {
  const entries = await readdir(path.join(store.dir, BUCKET), { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).map((entry) => entry.name)
}
async function rowsOf(table: string, where = 'true'): Promise<number> {
  return (await owner.query(`SELECT 1 FROM signet.${table} WHERE tenant = 'acme' AND ${where}`)).rowCount ?? 0
}
async function control(id: string): Promise<{ status: string; evidence: unknown; statement: { expired: boolean } }> {
  const { body } = await get('/api/compliance?framework=soc2')
  return body.items[0].controls.find((one: { id: string }) => one.id === id)
}

describe('a file', () => {
  it('is kept with its hash, size and type, is linked to controls, and comes back as it was', async () => {
    const made = await upload(PDF, { query: { controls: 'soc2:CC1.4,gdpr:art-5', sha256: sha256(PDF) } })
    expect(made).toMatchObject({
      status: 201,
      body: {
        kind: 'file',
        name: 'Minutes',
        media_type: 'application/pdf',
        bytes: PDF.length,
        sha256: sha256(PDF),
        fresh: true,
        made_by: 'admin@acme.example',
      },
    })
    const { id } = made.body
    const answer = await download(id)
    expect(Buffer.from(await answer.arrayBuffer())).toEqual(PDF)
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      'content-type': 'application/octet-stream',
      'content-disposition': `attachment; filename="${id}.pdf"`,
      'x-content-type-options': 'nosniff',
      'repr-digest': `sha-256=:${createHash('sha256').update(PDF).digest('base64')}:`,
    })
    expect((await get('/api/v1/evidence?framework=soc2&control=CC1.4')).body.items).toMatchObject([{ id }])
    expect((await get('/api/v1/evidence?framework=soc2&control=CC1.1')).body.items).toEqual([])
    const events = (await stack.events('acme', '&resource_type=evidence')).filter(({ resource }) =>
      resource.endsWith(id),
    )
    expect(events.map(({ event_type }) => event_type)).toEqual(['governance.intent', 'governance.outcome'])
    expect(events[1]?.after).toMatchObject({ sha256: sha256(PDF), controls: ['gdpr:art-5', 'soc2:CC1.4'] })
    expect(await rowsOf('evidence_unclaimed')).toBe(0)
  })
  it.each([
    { what: 'no type', type: null, want: [415, 'MEDIA_TYPE_REFUSED'] },
    { what: 'a type that is not taken', type: 'text/html', want: [415, 'MEDIA_TYPE_REFUSED'] },
    { what: 'another type than it has', type: 'image/png', want: [415, 'MEDIA_TYPE_REFUSED'] },
    { what: 'another hash', query: { sha256: 'a'.repeat(64) }, want: [400, 'REQUEST_INVALID'] },
    { what: 'nothing in it', bytes: Buffer.alloc(0), want: [400, 'REQUEST_INVALID'] },
    {
      what: 'too much in it',
      bytes: Buffer.alloc(MAX_BYTES + 1, 'a'),
      type: 'text/plain',
      want: [413, 'PAYLOAD_TOO_LARGE'],
    },
    { what: 'a control that no framework has', query: { controls: 'soc2:CC99' }, want: [400, 'REQUEST_INVALID'] },
    { what: 'a control twice', query: { controls: 'soc2:CC1.4,soc2:CC1.4' }, want: [400, 'REQUEST_INVALID'] },
    { what: 'a day that is over', query: { valid_until: '2020-01-01T00:00:00.000Z' }, want: [400, 'REQUEST_INVALID'] },
    {
      what: 'a day that there is not',
      query: { valid_until: '2027-02-30T00:00:00.000Z' },
      want: [400, 'REQUEST_INVALID'],
    },
    { what: 'no name', query: { name: '' }, want: [400, 'REQUEST_INVALID'] },
    { what: 'U+0000 in its name', query: { name: 'a\0b' }, want: [400, 'REQUEST_INVALID'] },
  ])(
    'with $what is refused, and nothing is kept',
    async ({ want, bytes = PDF, type = 'application/pdf', query = {} }) => {
      const before = [await objects(), await rowsOf('evidence', "kind = 'file'")]
      const { status, body } = await upload(bytes, { type, query })
      expect([status, body.code]).toEqual(want)
      expect([await objects(), await rowsOf('evidence', "kind = 'file'")]).toEqual(before)
    },
  )
  it('too long without saying so is refused as well', async () => {
    const chunks = async function* () {
      for (let i = 0; i < 40; i++) yield new Uint8Array(4_096).fill(97)
    }
    const response = await fetch(`${stack.process().url}/api/v1/evidence?name=Long`, {
      method: 'POST',
      headers: { authorization: `Bearer ${stack.token('acme')}`, 'content-type': 'text/plain' },
      body: ReadableStream.from(chunks()),
      duplex: 'half',
    })
    expect(response.status).toBe(413)
  })
  it('is changed in what is said of it, and deleted with its file', async () => {
    const { id } = (await upload(Buffer.from('a,b\n'), { type: 'text/csv' })).body
    const url = `/api/v1/evidence/${id}`
    const changed = await send('PATCH', url, {
      name: 'Backups',
      controls: [{ framework: 'soc2', control: 'CC1.1' }],
      version: 1,
    })
    expect(changed.body).toMatchObject({
      name: 'Backups',
      version: 2,
      controls: [{ framework: 'soc2', control: 'CC1.1' }],
    })
    expect((await send('PATCH', url, { name: 'Late', version: 1 })).status).toBe(409)
    expect((await send('PATCH', url, { controls: [{ framework: 'soc2', control: 'none' }] })).status).toBe(400)
    expect(await objects()).toContain(id)
    expect((await send('DELETE', url)).status).toBe(204)
    expect((await get(url)).status).toBe(404)
    await expect.poll(objects, { timeout: 60_000 }).not.toContain(id)
    await expect.poll(() => rowsOf('evidence_unclaimed'), { timeout: 60_000 }).toBe(0)
  })
  it('that was changed in the store is not given out', async () => {
    const { id } = (await upload(Buffer.from('passed: 7\n'), { type: 'text/plain' })).body
    const entries = await readdir(path.join(store.dir, BUCKET), { recursive: true, withFileTypes: true })
    const kept = entries.find((entry) => entry.name === id)!
    await writeFile(path.join(kept.parentPath, id), 'passed: 9\n')
    const answer = await download(id)
    expect(answer.status).toBe(500)
    expect(await answer.json()).toMatchObject({ code: 'EVIDENCE_ALTERED' })
    expect((await send('DELETE', `/api/v1/evidence/${id}`)).status).toBe(204)
    await expect.poll(() => rowsOf('evidence_unclaimed'), { timeout: 60_000 }).toBe(0)
  })
  it('is nobody else’s, by no route', async () => {
    const { id } = (await upload(PDF)).body
    for (const [method, url, body] of [
      ['GET', `/api/v1/evidence/${id}`, undefined],
      ['GET', `/api/v1/evidence/${id}/file`, undefined],
      ['PATCH', `/api/v1/evidence/${id}`, { name: 'Mine' }],
      ['DELETE', `/api/v1/evidence/${id}`, undefined],
    ] as const)
      expect([method, url, (await stack.call('globex', method, url, body)).status]).toEqual([method, url, 404])
    const others = (await stack.call('globex', 'GET', '/api/v1/evidence?kind=file')).body
    expect(others.items).toEqual([])
  })
  it('of somebody who may not is not even read', async () => {
    const email = 'viewer@acme.example'
    const { id } = (await send('POST', '/api/v1/users', { email, name: 'V', password: FIRST_PASSWORD })).body
    const roles = (await get('/api/v1/roles')).body.items as { id: string; name: string }[]
    const role_id = roles.find(({ name }) => name === 'Viewer')?.id
    await send('POST', '/api/v1/role-bindings', { role_id, principal_kind: 'user', principal_id: id })
    const session = { tenant: 'acme', email, password: FIRST_PASSWORD }
    const { token } = (await stack.call('acme', 'POST', '/api/v1/session', session, null)).body
    const before = await objects()
    const { status, body } = await upload(PDF, { token })
    expect([status, body.detail]).toEqual([403, `${email} lacks the permission write:evidence`])
    expect(await objects()).toEqual(before)
    expect((await get('/api/v1/evidence', token)).status).toBe(200)
  })
  it('is paged', async () => {
    for (let i = 0; i < 3; i++)
      await upload(Buffer.from(`page ${i}`), { type: 'text/plain', query: { name: `Page ${i}` } })
    const first = (await get('/api/v1/evidence?kind=file&limit=2')).body
    const second = (await get(`/api/v1/evidence?kind=file&limit=2&cursor=${first.next_cursor}`)).body
    const names = [...first.items, ...second.items].map(({ name }: { name: string }) => name)
    expect(names.slice(0, 3)).toEqual(['Page 2', 'Page 1', 'Page 0'])
  })
})

describe('what Signet collects', () => {
  it('of the ledger is its verdict and a proof', async () => {
    const made = await send('POST', '/api/v1/evidence/collect', { kind: 'ledger' })
    expect(made).toMatchObject({ status: 201, body: { kind: 'ledger', media_type: 'application/json' } })
    expect(made.body.controls).toContainEqual({ framework: 'sox', control: 'existence' })
    const first = await (await download(made.body.id)).json()
    expect(first).toMatchObject({ signet_evidence: 'v1', tenant: 'acme', verdict: { ok: true } })
    // The tree has what is a few seconds old.
    const proof = async (): Promise<string> => {
      const { id } = (await send('POST', '/api/v1/evidence/collect', { kind: 'ledger' })).body
      const document = (await (await download(id)).json()) as { proof: { checkpoint: string } | null }
      return document.proof?.checkpoint ?? ''
    }
    await expect.poll(proof, { timeout: 60_000 }).toMatch(/\n— /)
  })
  it('of a scan is what held, by rule, for the controls that the rules name', async () => {
    const scan = (await send('POST', '/api/scans', {})).body
    const made = await send('POST', '/api/v1/evidence/collect', { kind: 'scan', scan_id: scan.id })
    expect(made).toMatchObject({ status: 201, body: { kind: 'scan' } })
    expect(made.body.controls).toContainEqual({ framework: 'fedramp', control: 'AU-9' })
    // Nobody has a second factor: nothing is said of IA-2.
    expect(made.body.controls).not.toContainEqual({ framework: 'fedramp', control: 'IA-2' })
    const document = (await (await download(made.body.id)).json()) as { rules: unknown[] }
    expect(document.rules).toContainEqual(
      expect.objectContaining({ rule_id: 'nist-audit-001', control: 'AU-9(3)', passed: 1, failed: 0 }),
    )
  })
  it('is not made of facts that somebody gave', async () => {
    const facts = { user: { mfa_enabled: true } }
    const scan = (await send('POST', '/api/scans', { rule_ids: ['nist-mfa-001'], facts })).body
    expect(await send('POST', '/api/v1/evidence/collect', { kind: 'scan', scan_id: scan.id })).toMatchObject({
      status: 400,
    })
  })
  it('of stamps is the newest with its event, where there is one', async () => {
    expect(await send('POST', '/api/v1/evidence/collect', { kind: 'stamp' })).toMatchObject({ status: 404 })
    const proxy = createClient(stack.ledger.ledgers[0]!.url, stack.ledger.token('proxy'))
    const session = randomUUID()
    const event = buildEvent()
    const stamp = buildStamp({ tenant: 'acme', producerId: 'demo/api', event })
    const stamp_hash = stampHashOf(stamp)
    await proxy.open(session)
    await proxy.append([lineOf({ session, spool_seq: 1, event: { ...event, stamp_hash }, stamp })])
    const made = await send('POST', '/api/v1/evidence/collect', { kind: 'stamp' })
    expect(made).toMatchObject({ status: 201, body: { kind: 'stamp' } })
    expect(made.body.controls).toContainEqual({ framework: 'sox', control: 'approval' })
    const document = (await (await download(made.body.id)).json()) as object
    expect(document).toMatchObject({ stamp_hash, stamp, event: { event_id: event.event_id } })
  })
  it('every day by itself, once', async () => {
    const collected = async () =>
      (await get('/api/v1/evidence?kind=ledger')).body.items.filter(
        ({ made_by }: { made_by: string }) => made_by === 'system/evidence',
      )
    await expect.poll(async () => (await collected()).length, { timeout: 60_000 }).toBe(1)
    await stack.restart()
    await expect
      .poll(async () => (await stack.call('globex', 'GET', '/api/v1/evidence?kind=ledger')).body.items.length, {
        timeout: 60_000,
      })
      .toBe(1)
    expect(await collected()).toHaveLength(1)
    const events = await stack.events('acme', '&actor=system/evidence')
    expect(events.map(({ event_type }) => event_type).slice(0, 2)).toEqual(['governance.intent', 'governance.outcome'])
  })
})

it('a control whose files are all out of date is not implemented any more', async () => {
  const said = { framework: 'soc2', control: 'CC2.3', status: 'implemented' }
  expect((await send('PATCH', '/api/compliance', said)).body).toMatchObject({ evidence: { fresh: 0, stale: 0 } })
  const { id } = (await upload(PDF, { query: { controls: 'soc2:CC2.3' } })).body
  expect(await control('CC2.3')).toMatchObject({ status: 'implemented', evidence: { fresh: 1, stale: 0 } })
  await stack.query(`UPDATE signet.evidence SET valid_until = now() WHERE id = '${id}'`, 'acme')
  expect(await control('CC2.3')).toMatchObject({
    status: 'in_progress',
    evidence: { fresh: 0, stale: 1 },
    statement: { expired: true },
  })
  await upload(PDF, { query: { controls: 'soc2:CC2.3' } })
  expect(await control('CC2.3')).toMatchObject({ status: 'implemented', evidence: { fresh: 1, stale: 1 } })
})

describe('when something is away', () => {
  it('a store that is down takes nothing and leaves nothing half-made', async () => {
    const { id } = (await upload(PDF)).body
    const before = await rowsOf('evidence', "kind = 'file'")
    await store.kill()
    expect(await upload(PDF)).toMatchObject({ status: 503, body: { code: 'EVIDENCE_UNAVAILABLE' } })
    expect((await download(id)).status).toBe(503)
    expect((await get(`/api/v1/evidence/${id}`)).status).toBe(200)
    expect([await rowsOf('evidence', "kind = 'file'"), await rowsOf('evidence_unclaimed')]).toEqual([before, 0])
    await store.restart()
    expect((await download(id)).status).toBe(200)
    expect((await upload(PDF)).status).toBe(201)
  })
  it('a store that hangs is given up', async () => {
    const held = new Set<Socket>()
    const hanging: Server = createServer((socket) => held.add(socket.on('error', () => undefined)))
    await new Promise<void>((resolve) => void hanging.listen(0, '127.0.0.1', resolve))
    const { port } = hanging.address() as { port: number }
    try {
      await stack.restart({
        SIGNET_EVIDENCE_ENDPOINT: `http://127.0.0.1:${port}`,
        SIGNET_EVIDENCE_STORE_TIMEOUT_MS: '1000',
      })
      expect(await upload(PDF)).toMatchObject({ status: 503, body: { code: 'EVIDENCE_UNAVAILABLE' } })
      expect(await rowsOf('evidence_unclaimed')).toBe(0)
    } finally {
      await stack.restart()
      for (const socket of held) socket.destroy()
      hanging.close()
    }
  })
  it('without the ledger nothing is kept, and the file that came is deleted', async () => {
    const known = await objects()
    const before = await rowsOf('evidence', "kind = 'file'")
    await stack.ledger.ledgers[0]!.kill()
    expect(await upload(PDF)).toMatchObject({ status: 503, body: { code: 'LEDGER_UNREACHABLE' } })
    const [left = ''] = (await objects()).filter((name) => !known.includes(name))
    const waiting = () => rowsOf('evidence_unclaimed', `object_key LIKE '%/${left}'`)
    expect([await waiting(), await rowsOf('evidence', "kind = 'file'")]).toEqual([1, before])
    await stack.query('UPDATE signet.evidence_unclaimed SET due_at = now()', 'acme')
    await expect.poll(waiting, { timeout: 60_000 }).toBe(0)
    expect(await objects()).not.toContain(left)
  })
})
