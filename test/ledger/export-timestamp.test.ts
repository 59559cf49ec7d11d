import { spawnSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import type { Readable } from 'node:stream'
import { gunzipSync, gzipSync } from 'node:zlib'
import { simpleParser, type ParsedMail } from 'mailparser'
import { SMTPServer } from 'smtp-server'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { readTar, writeTar } from '#engine/bundle/tar.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildEvent, createClient, lineOf } from '#test/support/producer.ts'
import { startTimestampAuthority, type TimestampAuthority } from '#test/support/timestamp-authority.ts'

/** Exports with a time stamp by a real authority, told of by real mail. */
const MAIN = path.join(import.meta.dirname, '../../cli/main.ts')
let stack: LedgerStack
let authority: TimestampAuthority
let other: TimestampAuthority
let mail: SMTPServer
let logKey: string
const letters: ParsedMail[] = []
/** What the mail server says to the next letters, in place of taking them. */
const refusals: Error[] = []

/** The server's word is given once the letter is read. */
async function takeLetter(stream: Readable, done: (error?: Error | null) => void): Promise<void> {
  const letter = await simpleParser(stream)
  const refusal = refusals.shift()
  if (refusal === undefined) letters.push(letter)
  done(refusal ?? null)
}

type Job = { id: string; state: string; timestamped: boolean | null; error: { code: string; detail: string } | null }

beforeAll(async () => {
  ;[authority, other] = await Promise.all([startTimestampAuthority(), startTimestampAuthority()])
  mail = new SMTPServer({
    disabledCommands: ['STARTTLS'],
    onAuth: ({ username, password }, _session, done) =>
      done(username === 'ledger' && password === 'letters' ? null : new Error('no'), { user: 'ledger' }),
    onData: (stream, _session, done) => void takeLetter(stream, done),
  })
  await new Promise<void>((resolve) => mail.listen(0, '127.0.0.1', resolve))
  const { port } = mail.server.address() as { port: number }
  stack = await startLedgerStack({
    ledgers: 0,
    identities: [
      { name: 'proxy', tenant: 'acme', producer_id: 'demo/api', scopes: ['audit:write', 'audit:read'] },
      { name: 'exporter', tenant: 'acme', scopes: ['audit:export'] },
      { name: 'globex-exporter', tenant: 'globex', scopes: ['audit:export'] },
    ],
  })
  await stack.startLedger({
    env: {
      SIGNET_LEDGER_TSA_URL: authority.url,
      SIGNET_LEDGER_SMTP_URL: `smtp://ledger:letters@127.0.0.1:${port}`,
      SIGNET_LEDGER_MAIL_FROM: 'audit@acme.example',
      SIGNET_LEDGER_MAIL_DOMAINS: 'acme.example,Globex.example',
      SIGNET_LEDGER_PUBLIC_URL: 'https://audit.acme.example/',
    },
  })
  const client = createClient(url(), stack.token('proxy'))
  await client.append([
    lineOf({ session: crypto.randomUUID(), spool_seq: 1, event: buildEvent({ actor: 'service:one' }) }),
  ])
  await vi.waitFor(async () => {
    const keys = await fetch(`${url()}/log/keys`)
    logKey = (await keys.text()).trim()
    expect(keys.status).toBe(200)
  })
})
afterAll(async () => {
  await stack?.stop()
  await Promise.all([authority?.stop(), other?.stop()])
  await new Promise<void>((resolve) => mail.close(resolve))
})

const url = (): string => stack.ledgers.at(-1)?.url ?? ''
async function call(method: string, target: string, body?: unknown, name = 'exporter') {
  const response = await fetch(`${url()}${target}`, {
    method,
    headers: { authorization: `Bearer ${stack.token(name)}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return { status: response.status, body: await response.json() }
}
async function exported(request: object = {}): Promise<Job> {
  const { status, body } = await call('POST', '/api/audit/exports', request)
  expect(status, JSON.stringify(body)).toBe(202)
  for (
    const until = Date.now() + 60_000;
    Date.now() < until;
    await new Promise((resolve) => setTimeout(resolve, 100))
  ) {
    const job = (await call('GET', `/api/audit/exports/${(body as Job).id}`)).body as Job
    if (job.state === 'done' || job.state === 'failed') return job
  }
  throw new Error('the export does not end')
}
async function fetched(job: Job): Promise<Buffer> {
  const response = await fetch(`${url()}/api/audit/exports/${job.id}/package`, {
    headers: { authorization: `Bearer ${stack.token('exporter')}` },
  })
  expect(response.status).toBe(200)
  return Buffer.from(await response.arrayBuffer())
}
async function verified(archive: Buffer, ...flags: string[]) {
  const file = path.join(stack.dir, 'export.tar.gz')
  await writeFile(file, archive)
  const done = spawnSync(process.execPath, [MAIN, 'verify', file, '--log-key', logKey, '--json', ...flags], {
    encoding: 'utf8',
  })
  return { code: done.status, report: JSON.parse(done.stdout) }
}
/** The same archive with its files changed. */
async function changed(archive: Buffer, change: (files: Map<string, Buffer>) => void): Promise<Buffer> {
  const files = readTar(gunzipSync(archive))
  change(files)
  return gzipSync(await writeTar(files))
}

describe('a time stamp', () => {
  let archive: Buffer
  beforeAll(async () => {
    const job = await exported()
    expect(job).toMatchObject({ state: 'done', timestamped: true, error: null })
    archive = await fetched(job)
  })
  it('is in the package, and checked with no network', async () => {
    expect([...readTar(gunzipSync(archive)).keys()].at(-1)).toBe('manifest.tst')
    const { code, report } = await verified(archive, '--tsa-root', authority.rootFile)
    expect([code, report.timestamp]).toEqual([
      0,
      { time: expect.any(String), authority: 'O=Signet tests, CN=Test authority', trusted: true },
    ])
    expect(Math.abs(Date.parse(report.timestamp.time) - Date.now())).toBeLessThan(120_000)
  })
  it('by an authority that nobody named is told of, not believed', async () => {
    const { code, report } = await verified(archive)
    expect([code, report.timestamp.trusted]).toEqual([0, false])
    expect(report.unchecked).toContainEqual(expect.stringContaining('--tsa-root'))
  })
  it('is the same at the next download', async () => {
    const [{ body }] = [await call('GET', '/api/audit/exports')]
    const again = await fetched((body as { items: Job[] }).items[0]!)
    expect(readTar(gunzipSync(again)).get('manifest.tst')).toEqual(readTar(gunzipSync(archive)).get('manifest.tst'))
  })
  it('of another authority, of another manifest, or none, is found out', async () => {
    expect(await verified(archive, '--tsa-root', other.rootFile)).toMatchObject({
      code: 1,
      report: { code: 'TIMESTAMP_INVALID' },
    })
    const second = readTar(gunzipSync(await fetched(await exported())))
    const moved = await changed(archive, (files) => files.set('manifest.tst', second.get('manifest.tst')!))
    expect(await verified(moved)).toMatchObject({ code: 1, report: { code: 'TIMESTAMP_INVALID' } })
    const without = await changed(archive, (files) => files.delete('manifest.tst'))
    expect(await verified(without, '--tsa-root', authority.rootFile)).toMatchObject({
      code: 1,
      report: { detail: 'the export has no time stamp' },
    })
    const rubbish = await changed(archive, (files) => files.set('manifest.tst', Buffer.from('x')))
    expect(await verified(rubbish)).toMatchObject({ code: 1, report: { code: 'TIMESTAMP_INVALID' } })
  })
  it('is asked for again where the authority is busy or cuts the line', async () => {
    authority.answerNext((response) => response.writeHead(503).end())
    expect(await exported()).toMatchObject({ state: 'done', timestamped: true })
    authority.answerNext((response) => response.destroy())
    expect(await exported()).toMatchObject({ state: 'done', timestamped: true })
  })
  it('that is none makes the export fail, and says so', async () => {
    authority.answerNext((response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<html>'))
    expect(await exported()).toMatchObject({
      state: 'failed',
      error: { code: 'TIMESTAMP_INVALID', detail: expect.stringContaining('text/html') },
    })
    const foreign = other.reply(Buffer.from('no query'))
    authority.answerNext((response) =>
      response.writeHead(200, { 'content-type': 'application/timestamp-reply' }).end(foreign),
    )
    expect(await exported()).toMatchObject({ state: 'failed', error: { code: 'TIMESTAMP_INVALID' } })
  })
})

describe('a letter', () => {
  it('says that it is ready and where, and nothing else', async () => {
    const job = await exported({ notify: 'auditor@acme.example' })
    await expect.poll(() => letters.length, { timeout: 20_000 }).toBe(1)
    const { from, to, subject, text, html } = letters[0]!
    expect(from?.text).toBe('audit@acme.example')
    expect((to as { text: string }).text).toBe('auditor@acme.example')
    expect([subject, html]).toEqual(['Your audit export is ready', false])
    expect(text).toContain(`https://audit.acme.example/api/audit/exports/${job.id}/package`)
    expect(text).not.toContain('demo/api')
  })
  it('is sent once, by whichever process', async () => {
    await stack.startLedger({ env: { SIGNET_LEDGER_TSA_URL: authority.url } })
    await new Promise((resolve) => setTimeout(resolve, 3_000))
    expect(letters).toHaveLength(1)
    await stack.ledgers.pop()?.stop()
  })
  it('that the server did not take is not forgotten', async () => {
    refusals.push(new Error('mailbox full'))
    const { id } = await exported({ notify: 'late@Acme.example' })
    await expect.poll(() => refusals.length, { timeout: 20_000 }).toBe(0)
    // A minute later in earnest; here the database is told that it is over.
    const { default: pg } = await import('pg')
    const client = new pg.Client(stack.work.adminUrl)
    await client.connect()
    await expect
      .poll(
        async () =>
          (
            await client.query(
              'UPDATE signet.exports SET tell_after = now() WHERE id = $1 AND tell_after IS NOT NULL',
              [id],
            )
          ).rowCount,
      )
      .toBe(1)
    await client.end()
    await expect.poll(() => letters.length, { timeout: 20_000 }).toBe(2)
    expect(letters[1]?.text).toContain(id)
  })
  it.each([
    { what: 'another domain', notify: 'somebody@elsewhere.example', want: 'outside of the domains' },
    { what: 'a subdomain', notify: 'somebody@a.acme.example', want: 'outside of the domains' },
    { what: 'two addresses', notify: 'a@acme.example,b@elsewhere.example', want: '/notify' },
    { what: 'a header', notify: 'a@acme.example\r\nBcc: b@elsewhere.example', want: '/notify' },
    { what: 'a name beside it', notify: 'A <a@acme.example>', want: '/notify' },
  ])('does not go to $what', async ({ notify, want }) => {
    const { status, body } = await call('POST', '/api/audit/exports', { notify })
    expect([status, (body as { detail: string }).detail]).toEqual([400, expect.stringContaining(want)])
  })
})

it('the list is the tenant’s own, newest first', async () => {
  const { body } = await call('GET', '/api/audit/exports')
  const { items } = body as { items: (Job & { created_at: string })[] }
  expect(items.length).toBeGreaterThan(5)
  expect(items.map(({ created_at }) => created_at)).toEqual(
    items
      .map(({ created_at }) => created_at)
      .toSorted()
      .toReversed(),
  )
  expect((await call('GET', '/api/audit/exports', undefined, 'globex-exporter')).body).toEqual({ items: [] })
})

it('is counted', async () => {
  const metrics = await (await fetch(`${url()}/metrics`)).text()
  expect(metrics).toMatch(/^signet_ledger_exports_total\{state="done"\} [1-9]/m)
  expect(metrics).toMatch(/^signet_ledger_exports_total\{state="failed"\} 2$/m)
  expect(metrics).toMatch(/^signet_ledger_export_letters_total\{result="sent"\} 2$/m)
  expect(metrics).toMatch(/^signet_ledger_export_letters_total\{result="failed"\} 1$/m)
})
