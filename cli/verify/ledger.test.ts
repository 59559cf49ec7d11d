import { createSecretKey, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { sealRecord, type SealedRecord } from '#core/audit/record.ts'
import { commitment, linkHash, NO_PREDECESSOR } from '#core/chain/link.ts'
import { uuidV7 } from '#runtime/identifier.ts'
import type { LogItem } from './chain-recheck.ts'
import { verifyLedger } from './ledger.ts'

const SECRET = Buffer.alloc(32, 3)
const key = createSecretKey(SECRET)

function makeChain(length: number): LogItem[] {
  let previousHash: Buffer = NO_PREDECESSOR
  return Array.from({ length }, (_, index) => {
    const seq = index + 1
    const record: SealedRecord = {
      v: 1,
      event: {
        event_id: uuidV7(),
        event_type: 'egress.decision',
        timestamp_utc: '2026-11-23T09:30:00.123Z',
        trace_id: '4bf92f3577b34da6a3ce929d0e0e4736',
        request_id: `r${seq}`,
        actor: 'anonymous',
        tenant: 'acme',
        stage: 'publish',
        action: 'respond',
        resource: '/a',
        before: null,
        after: null,
        outcome: 'allowed',
        latency_ms: 1.5,
        stamp_hash: null,
      },
      producer_id: 'demo/api',
      received_at: '2026-11-23T09:30:00.200Z',
      session: null,
      spool_seq: null,
      stamp_hash: null,
    }
    const nonce = randomBytes(32)
    const committed = commitment(nonce, sealRecord(record))
    const previousTraceHash = NO_PREDECESSOR
    const hash = linkHash({ key, previousHash, previousTraceHash, commitment: committed, seq, tenant: 'acme' })
    const { v: _v, ...shown } = record
    const item: LogItem = {
      seq,
      ...shown,
      nonce: nonce.toString('hex'),
      commitment: committed.toString('hex'),
      hash: hash.toString('hex'),
      previous_hash: previousHash.toString('hex'),
      previous_trace_hash: previousTraceHash.toString('hex'),
      key_id: 'chain-1',
    }
    previousHash = hash
    return item
  })
}

describe('signet verify --ledger', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'signet-verify-ledger-'))
  const file = (name: string, text: string): string => {
    writeFileSync(path.join(folder, name), text)
    return path.join(folder, name)
  }
  const validity = { not_before: '2020-01-01T00:00:00.000Z', not_after: '2100-01-01T00:00:00.000Z' }
  const keyring = file(
    'ledger-keyring.json',
    JSON.stringify({
      version: 1,
      keys: [
        { use: 'chain', alg: 'HMAC-SHA256', key_id: 'chain-1', secret: SECRET.toString('base64url'), ...validity },
      ],
    }),
  )
  const tokenFile = file('auditor.token', 'secret-token\n')
  // An own state folder, so that heads are remembered.
  file('keyring.json', '{"version":1,"keys":[]}')
  const env = { SIGNET_STATE_DIR: folder }

  let server: Server
  let url: string
  let chain: LogItem[]
  let verdict: object | null
  let page: object | null
  let asked: string[]
  beforeAll(async () => {
    server = createServer((request, response) => {
      asked.push(request.url ?? '')
      const { pathname, searchParams } = new URL(request.url ?? '/', 'http://x')
      if (request.headers.authorization !== 'Bearer secret-token') {
        response
          .writeHead(401, { 'content-type': 'application/problem+json' })
          .end('{"detail":"the token is not known here"}')
      } else if (pathname === '/api/audit/verify') {
        const head = { seq: chain.length, hash: chain.at(-1)?.hash ?? '0'.repeat(64) }
        response.end(JSON.stringify(verdict ?? { ok: true, checked: chain.length, head }))
      } else if (page !== null) {
        response.end(JSON.stringify(page))
      } else {
        // Pages of two.
        const before = Number(searchParams.get('cursor') ?? Infinity)
        const items = chain
          .filter((item) => item.seq < before)
          .toReversed()
          .slice(0, 2)
        const last = items.at(-1)?.seq ?? 0
        response.end(JSON.stringify({ items, next_cursor: last > 1 ? String(last) : null }))
      }
    })
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve)
    })
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  beforeEach(() => {
    chain = makeChain(5)
    verdict = null
    page = null
    asked = []
    rmSync(path.join(folder, 'verified-head.json'), { force: true })
  })
  afterAll(() => {
    server.close()
    server.closeAllConnections()
    rmSync(folder, { recursive: true, force: true })
  })

  async function run(options: { keyring?: string; tenant?: string | undefined; text?: true } = {}) {
    let output = ''
    const write = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      output += String(text)
      return true
    })
    try {
      const asked = { tenant: 'acme', ...options, url, tokenFile, keyring: options.keyring ?? keyring }
      const code = await verifyLedger({ ...asked, json: options.text === undefined }, env)
      return { code, output, report: (options.text ? null : JSON.parse(output)) as Record<string, unknown> }
    } finally {
      write.mockRestore()
    }
  }

  it('verifies a sound chain, page by page', async () => {
    expect(await run()).toMatchObject({
      code: 0,
      report: { result: 'verified', tenant: 'acme', checked_here: 5, without_key: 0, unchecked: [] },
    })
  })

  it('does not take the word of a ledger that shows nothing', async () => {
    chain = []
    const empty = { code: 3, report: { result: 'not-fully-checked', checked_here: 0, unchecked: [expect.anything()] } }
    expect(await run()).toMatchObject(empty)
    // Nor the second time: an empty chain is no head to compare with.
    expect(await run()).toMatchObject(empty)
    expect((await run({ text: true })).output).toMatch(
      /^no fault found, not fully checked[^]*not checked {2}whether the/,
    )
    chain = makeChain(2)
    await run()
    chain = []
    expect(await run()).toMatchObject({ code: 1, report: { first_bad: { seq: 1, found_by: 'here' } } })
  })

  it('compares the tenant with the one expected, and says so where there is none', async () => {
    expect(await run({ tenant: 'globex' })).toMatchObject({
      code: 1,
      report: { first_bad: { seq: 5, found_by: 'here' } },
    })
    expect(await run({ tenant: undefined })).toMatchObject({
      code: 3,
      report: { result: 'not-fully-checked', tenant: 'acme', unchecked: [expect.stringContaining('--tenant')] },
    })
    Object.assign(chain[1]?.event ?? {}, { tenant: 'globex' })
    expect(await run({ tenant: undefined })).toMatchObject({ code: 1, report: { first_bad: { seq: 2 } } })
  })

  it('takes the tenant from a signet up nearby, for its own ledger only', async () => {
    const endpoints = (ledger: string, tenant: string): string =>
      file('endpoints.json', JSON.stringify({ ledger, tenant }))
    try {
      endpoints(url, 'acme')
      expect(await run({ tenant: undefined })).toMatchObject({ code: 0 })
      endpoints(url, 'globex')
      expect(await run({ tenant: undefined })).toMatchObject({ code: 1 })
      endpoints('http://127.0.0.1:9', 'globex')
      expect(await run({ tenant: undefined })).toMatchObject({ code: 3 })
    } finally {
      rmSync(path.join(folder, 'endpoints.json'))
    }
  })

  it("does not compare with the head of another tenant's chain", async () => {
    await run()
    writeFileSync(
      path.join(folder, 'verified-head.json'),
      JSON.stringify({ ledger: `${url}/`, tenant: 'globex', seq: 9, hash: 'a'.repeat(64) }),
    )
    expect(await run()).toMatchObject({ code: 0, report: { known_head: null } })
  })

  const edits: { name: string; edit: () => void; wantSeq: number }[] = [
    { name: 'an edited event', edit: () => Object.assign(chain[2]?.event ?? {}, { actor: 'nobody' }), wantSeq: 3 },
    { name: 'a missing event', edit: () => void chain.splice(2, 1), wantSeq: 3 },
    { name: 'a missing first event', edit: () => void chain.shift(), wantSeq: 1 },
    {
      name: 'a link made with another key',
      edit: () => Object.assign(chain[4] ?? {}, { previous_trace_hash: '1'.repeat(64) }),
      wantSeq: 5,
    },
    {
      name: 'a record that the ledger could not read',
      edit: () => Object.assign(chain[1] ?? {}, { event: null, fault: 'edit' }),
      wantSeq: 2,
    },
  ]
  it.each(edits)('finds $name although the ledger says that all is well', async ({ edit, wantSeq }) => {
    const head = { seq: 5, hash: chain[4]?.hash }
    verdict = { ok: true, checked: 5, head }
    edit()
    expect(await run()).toMatchObject({
      code: 1,
      report: { result: 'invalid', first_bad: { seq: wantSeq, found_by: 'here' } },
    })
  })

  it('passes on what the ledger found', async () => {
    verdict = {
      ok: false,
      checked: 1,
      head: { seq: 5, hash: chain[4]?.hash },
      first_bad: { seq: 2, fault: 'edit', detail: 'x' },
    }
    expect(await run()).toMatchObject({ code: 1, report: { first_bad: { seq: 2, fault: 'edit', found_by: 'ledger' } } })
  })

  it('finds an end that was cut off since the last verification, and asks the ledger for that head', async () => {
    const whole = chain
    await run()
    expect(await run()).toMatchObject({ code: 0, report: { known_head: { seq: 5 } } })
    expect(asked).toContain(`/api/audit/verify?checkpoint_seq=5&checkpoint_hash=${whole[4]?.hash}`)
    chain = whole.slice(0, 3)
    expect(await run()).toMatchObject({ code: 1, report: { first_bad: { seq: 4, found_by: 'here' } } })
    chain = makeChain(6)
    expect(await run()).toMatchObject({ code: 1, report: { first_bad: { seq: 5, found_by: 'here' } } })
  })

  it('checks what it can without the chain key, says so, and remembers the head', async () => {
    const none = file('none.json', '{"version":1,"keys":[]}')
    const want = { code: 3, report: { result: 'not-fully-checked', checked_here: 5, without_key: 5 } }
    expect(await run({ keyring: none })).toMatchObject({ ...want, report: { ...want.report, known_head: null } })
    expect(await run({ keyring: none })).toMatchObject({ ...want, report: { ...want.report, known_head: { seq: 5 } } })
    Object.assign(chain[4] ?? {}, { key_id: 'chain-0' })
    expect(await run()).toMatchObject({
      code: 3,
      report: { without_key: 1, unchecked: [expect.stringMatching(/1 of 5/)] },
    })
  })

  it.each([
    { name: 'no number of links', answer: { ok: true, head: { seq: 0, hash: '0'.repeat(64) } } },
    { name: 'no hash', answer: { ok: true, checked: 0, head: { seq: 0 } } },
    { name: 'a head before the first link', answer: { ok: true, checked: 0, head: { seq: 0, hash: '1'.repeat(64) } } },
    { name: 'no safe number', answer: { ok: true, checked: 0, head: { seq: 1e300, hash: '1'.repeat(64) } } },
  ])('refuses a verdict of another form: $name', async ({ answer }) => {
    verdict = answer
    await expect(run()).rejects.toThrow('does not answer as a ledger does')
  })

  it('ends whatever the ledger lists', async () => {
    page = { items: [], next_cursor: 'x' }
    await expect(run()).rejects.toThrow('does not answer as a ledger does')
    page = { items: [{ ...chain[4], seq: 9 }], next_cursor: 'x' }
    expect(await run()).toMatchObject({ code: 1, report: { first_bad: { seq: 9 } } })
    for (const event of [1, {}, { tenant: 'acme', actor: '\ud800' }, { tenant: 7 }]) {
      page = { items: [{ ...chain[4], event }], next_cursor: null }
      expect(await run()).toMatchObject({ code: 1, report: { first_bad: { seq: 5 } } })
    }
    page = { items: [null], next_cursor: null }
    await expect(run()).rejects.toThrow('does not answer as a ledger does')
  })

  it('lets the ledger write no control characters to a terminal', async () => {
    verdict = {
      ok: false,
      checked: 0,
      head: { seq: 5, hash: chain[4]?.hash },
      first_bad: { seq: 1, fault: 'x', detail: '\u001b[2Jverified' },
    }
    expect((await run({ text: true })).output).toContain(': \ufffd[2Jverified')
  })

  it('says what it cannot read', async () => {
    const wrong = file('wrong.token', 'x')
    const ask = (changes: object): Promise<number> =>
      verifyLedger({ url, tokenFile, keyring, tenant: 'acme', json: true, ...changes }, env)
    await expect(ask({ tokenFile: wrong })).rejects.toThrow('the ledger answers 401: the token is not known here')
    await expect(ask({ url: 'nowhere' })).rejects.toThrow('--url is nowhere; it must be an http or https URL')
    await expect(ask({ tokenFile: '/nowhere' })).rejects.toThrow(
      'cannot read the token file /nowhere: there is no such file',
    )
  })
})
