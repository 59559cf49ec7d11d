import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { formatStampHeader } from '#core/stamp/header.ts'
import { KEYRING, stampedJson, stampOf, subject } from '../verify/fixture.ts'

const MAIN = path.resolve(import.meta.dirname, '../main.ts')
const folder = mkdtempSync(path.join(tmpdir(), 'signet-verify-'))
const inFolder = (name: string): string => path.join(folder, name)
const put = (name: string, content: string | Buffer): string => {
  writeFileSync(inFolder(name), content)
  return inFolder(name)
}
afterAll(() => rmSync(folder, { recursive: true, force: true }))

type Ended = { code: number | null; stdout: string; stderr: string }

function signet(args: string[], options: { cwd?: string; env?: Record<string, string> } = {}): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [MAIN, ...args], {
      cwd: options.cwd ?? folder,
      // Nothing of a `signet up` that happens to be there.
      env: { PATH: process.env.PATH, SIGNET_STATE_DIR: inFolder('no-state'), ...options.env },
    })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
    child.once('close', (code) => resolve({ code, stdout, stderr }))
  })
}

const keyring = put('keyring.json', JSON.stringify(KEYRING))
const TARGET = '/reports?year=2026'
const AS_SENT = ['--target', TARGET, '--method', 'GET', '--status', '200', '--tenant', 'acme', '--channel', 'external']
const stamped = stampedJson({ revenue: 12, note: 'x' }, subject(TARGET))
const csv = Buffer.from('a,b\r\n1,2\r\n')
const csvStamp = stampOf(csv, subject('/orders.csv', { media_type: 'text/csv' }))

function flipped(bytes: Buffer, needle: string, replacement: string): Buffer {
  const at = bytes.indexOf(needle)
  expect(at).toBeGreaterThan(-1)
  return Buffer.concat([bytes.subarray(0, at), Buffer.from(replacement), bytes.subarray(at + needle.length)])
}

describe('signet verify FILE', () => {
  const cases: { name: string; file: () => string; args?: string[]; want: number; wantOutput: RegExp }[] = [
    {
      name: 'a JSON file with its stamp inside',
      file: () => put('ok.json', stamped),
      args: AS_SENT,
      want: 0,
      wantOutput: /^verified {2}/,
    },
    {
      name: 'without an expected subject',
      file: () => put('ok.json', stamped),
      want: 3,
      wantOutput: /^intact, subject not fully checked.*\n[^]*--target --status|--target/,
    },
    {
      name: 'a part of the subject',
      file: () => put('ok.json', stamped),
      args: AS_SENT.slice(0, 6),
      want: 3,
      wantOutput: /not checked {2}tenant, channel/,
    },
    {
      name: 'a changed payload',
      file: () => put('p.json', flipped(stamped, '"x"', '"y"')),
      args: AS_SENT,
      want: 1,
      wantOutput: /INVALID[^]*payload: the content was changed/,
    },
    {
      name: 'a changed stamp',
      file: () => put('s.json', flipped(stamped, 'confidential', 'internal')),
      args: AS_SENT,
      want: 1,
      wantOutput: /INVALID[^]*mac: /,
    },
    {
      name: 'another target',
      file: () => put('ok.json', stamped),
      args: ['--target', '/reports?year=2025'],
      want: 1,
      wantOutput: /INVALID[^]*subject: the stamp belongs to another response/,
    },
    {
      name: 'another channel',
      file: () => put('ok.json', stamped),
      args: ['--channel', 'internal'],
      want: 1,
      wantOutput: /INVALID[^]*subject: /,
    },
    {
      name: 'another tenant',
      file: () => put('ok.json', stamped),
      args: ['--tenant', 'globex'],
      want: 1,
      wantOutput: /INVALID[^]*subject: /,
    },
    {
      name: 'another status',
      file: () => put('ok.json', stamped),
      args: ['--status', '201'],
      want: 1,
      wantOutput: /INVALID[^]*subject: /,
    },
    {
      name: 'another method',
      file: () => put('ok.json', stamped),
      args: ['--method', 'POST'],
      want: 1,
      wantOutput: /INVALID[^]*subject: /,
    },
    { name: 'no stamp', file: () => put('plain.json', '{"a":1}'), want: 1, wantOutput: /presence: there is no stamp/ },
    { name: 'no JSON and no stamp', file: () => put('broken.json', '{"a":'), want: 1, wantOutput: /INVALID[^]*form: / },
    {
      name: 'a foreign _compliance',
      file: () => put('foreign.json', '{"_compliance":1,"a":2}'),
      want: 1,
      wantOutput: /INVALID[^]*form: /,
    },
    {
      name: 'a sidecar beside it',
      file: () => {
        put('orders.csv.stamp.json', csvStamp.jcs)
        return put('orders.csv', csv)
      },
      args: [
        '--target',
        '/orders.csv',
        '--method',
        'GET',
        '--status',
        '200',
        '--tenant',
        'acme',
        '--channel',
        'external',
      ],
      want: 0,
      wantOutput: /^verified[^]*orders\.csv\.stamp\.json/,
    },
    {
      name: 'a sidecar named',
      file: () => put('other.csv', csv),
      args: ['--sidecar', put('x.json', csvStamp.jcs)],
      want: 3,
      wantOutput: /^intact/,
    },
    {
      name: 'a stamp header',
      file: () => put('h.csv', csv),
      args: ['--stamp-header', formatStampHeader(csvStamp.hash, csvStamp.jcs)],
      want: 3,
      wantOutput: /^intact/,
    },
    {
      name: 'a stamped JSON file against its own sidecar: both stamps are over the payload',
      file: () => put('both.json', stamped),
      args: [
        '--sidecar',
        put('both-sidecar.json', stampOf(Buffer.from('{"revenue":12,"note":"x"}'), subject(TARGET)).jcs),
        ...AS_SENT,
      ],
      want: 0,
      wantOutput: /^verified {2}/,
    },
    {
      name: 'a good sidecar does not excuse a changed stamp inside',
      file: () => put('both-bad.json', flipped(stamped, '"confidential"', '"public"')),
      args: [
        '--sidecar',
        put('both-sidecar.json', stampOf(Buffer.from('{"revenue":12,"note":"x"}'), subject(TARGET)).jcs),
        ...AS_SENT,
      ],
      want: 1,
      wantOutput: /^INVALID/,
    },
    {
      name: 'a header that is a hash alone, and no stamp inside',
      file: () => put('orders-hash.csv', csv),
      args: ['--stamp-header', formatStampHeader(csvStamp.hash, null)],
      want: 1,
      wantOutput: /hash alone/,
    },
    {
      name: 'a sidecar of other content',
      file: () => put('wrong.csv', 'a,b\n'),
      args: ['--sidecar', put('x.json', csvStamp.jcs)],
      want: 1,
      wantOutput: /payload: /,
    },
  ]
  it.each(cases)('$name: exit $want', async ({ file, args = [], want, wantOutput }) => {
    const ended = await signet(['verify', file(), '--keyring', keyring, ...args])
    expect(ended.stderr).toBe('')
    expect(ended.stdout).toMatch(wantOutput)
    expect(ended.code).toBe(want)
  })

  it('prints a report for scripts with --json, and no colours to a pipe', async () => {
    const ok = await signet(['verify', put('ok.json', stamped), '--keyring', keyring, '--json', ...AS_SENT])
    expect(JSON.parse(ok.stdout)).toMatchObject({
      result: 'verified',
      unchecked: [],
      stamp: { data_classification: 'confidential' },
    })
    const bad = await signet(['verify', put('p.json', flipped(stamped, '"x"', '"y"')), '--keyring', keyring, '--json'])
    expect(JSON.parse(bad.stdout)).toMatchObject({
      result: 'invalid',
      check: 'payload',
      code: 'STAMP_PAYLOAD_MISMATCH',
    })
    expect(`${ok.stdout}${bad.stdout}`).not.toContain('\u001b')
  })

  it('finds the keyring of a signet up nearby', async () => {
    mkdirSync(inFolder('.signet'), { recursive: true })
    put('.signet/keyring.json', JSON.stringify(KEYRING))
    const ended = await signet(['verify', put('ok.json', stamped), ...AS_SENT], { env: { SIGNET_STATE_DIR: '' } })
    expect(ended).toMatchObject({ code: 0, stderr: '' })
    rmSync(inFolder('.signet'), { recursive: true })
  })

  it('says that a key is not in the keyring', async () => {
    const empty = put('empty-keyring.json', '{"version":1,"keys":[]}')
    const ended = await signet(['verify', put('ok.json', stamped), '--keyring', empty])
    expect(ended.code).toBe(1)
    expect(ended.stdout).toMatch(/INVALID[^]*key: .*\n.*stamp-1/)
  })
})

describe('usage: one line on standard error, exit 2', () => {
  const cases: { args: string[]; want: string }[] = [
    { args: ['verify'], want: 'verify needs a FILE or a URL (or --ledger)' },
    { args: ['verify', 'a', 'b'], want: 'verify takes one FILE or URL, not also b' },
    { args: ['verify', 'nowhere.json', '--keyring', keyring], want: 'cannot read nowhere.json: there is no such file' },
    {
      args: ['verify', 'a.json', '--keyring', '/nowhere'],
      want: 'cannot read the keyring /nowhere: there is no such file',
    },
    {
      args: ['verify', 'a.json', '--keyring', put('bad-keyring.json', '{"version":2}')],
      want: `the keyring ${inFolder('bad-keyring.json')} cannot be used: the keyring must be an object with \`version\` 1 and \`keys\``,
    },
    { args: ['verify', 'a.json', '--status', 'ok'], want: '--status is ok; it must be a number from 200 to 599' },
    { args: ['verify', 'a.json', '--channel', 'x'], want: '--channel is x; it must be one of external, internal' },
    {
      args: ['verify', 'a.json', '--target', 'x'],
      want: '--target is x; it must be a path with its query, beginning with /',
    },
    { args: ['verify', 'a.json', '--nope'], want: "Unknown option '--nope'" },
    {
      args: ['verify', '--ledger', 'a.json'],
      want: 'verify --ledger takes no FILE or URL; the ledger is named with --url',
    },
  ]
  it.each(cases)('$args', async ({ args, want }) => {
    const ended = await signet(args)
    expect(ended.stderr).toBe(`signet: ${want}\n`)
    expect(ended).toMatchObject({ code: 2, stdout: '' })
  })

  it('names the commands when the one given is none', async () => {
    const ended = await signet(['nope'])
    expect(ended.code).toBe(2)
    expect(ended.stderr).toMatch(/^signet: there is no command nope\n\nsignet COMMAND/)
    expect((await signet(['help', 'verify'])).stdout).toContain('exit codes:')
    expect((await signet(['version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
  })
})

describe('signet verify URL', () => {
  let server: Server
  let origin: string
  const listener: RequestListener = (request, response) => {
    const url = request.url ?? ''
    const send = (body: string | Buffer, headers: Record<string, string | string[]> = {}, status = 200): void => {
      response.writeHead(status, headers).end(body)
    }
    const JSON_TYPE = { 'content-type': 'Application/JSON;charset=utf-8' }
    const CSV_TYPE = { 'content-type': 'text/csv' }
    const asCsv = (target: string) => stampOf(csv, subject(target, { media_type: 'text/csv' }))
    const big = asCsv('/linked')
    const ours = asCsv('/links')
    const inHeader = ({ hash, jcs }: ReturnType<typeof stampOf>) => ({
      'compliance-stamp': formatStampHeader(hash, jcs),
    })
    switch (url) {
      case TARGET:
        return send(stamped, { 'content-type': 'application/json' })
      case '/moved':
        return send(stamped, JSON_TYPE)
      case '/header':
        return send(csv, { ...inHeader(asCsv(url)), ...CSV_TYPE })
      case '/no-type':
        return send(csv, inHeader(stampOf(csv, subject(url, { media_type: '' }))))
      case '/swapped-type':
        return send(csv, { ...inHeader(asCsv(url)), 'content-type': 'text/html' })
      case '/added-type':
        return send(csv, { ...inHeader(asCsv(url)), 'content-type': ['text/csv', 'text/html'] })
      case '/lost-type':
        return send(csv, inHeader(asCsv(url)))
      case '/links':
        return send(csv, {
          ...CSV_TYPE,
          'compliance-stamp': ours.hash,
          // Of the service, an other origin's, ours, and one that describes nothing.
          link: [
            '</.well-known/signet/stamps/theirs>; rel="describedby"',
            `</.well-known/signet/stamps/${ours.hash}>; title="a, <b>\\"; rel=x"; rel="up DescribedBy", </style.css>; rel=preload`,
            '<http://127.0.0.1:9/.well-known/signet/stamps/x>; rel="describedby"',
            '</.well-known/signet/stamps/related>; rel="related"',
          ],
        })
      case `/.well-known/signet/stamps/${ours.hash}`:
        return send(ours.jcs)
      case '/linked':
        return send(csv, {
          ...CSV_TYPE,
          'compliance-stamp': big.hash,
          link: `</.well-known/signet/stamps/${big.hash}>; rel="describedby"`,
        })
      case `/.well-known/signet/stamps/${big.hash}`:
        return send(big.jcs)
      case '/wrong-link':
        return send(csv, {
          'compliance-stamp': csvStamp.hash,
          link: `</.well-known/signet/stamps/${big.hash}>; rel="describedby"`,
        })
      case '/streamed':
        return send(csv, { ...CSV_TYPE, link: '</.well-known/signet/requests/r1>; rel="describedby"' })
      case '/.well-known/signet/requests/r1':
        return send(asCsv('/streamed').jcs)
      case '/secret':
        return request.headers.authorization === 'Bearer t'
          ? send(stampedJson({ a: 1 }, subject(url)), JSON_TYPE)
          : send('no', {}, 401)
      case '/refused':
        return send(
          JSON.stringify({ code: 'POLICY_DENIED', detail: 'no approval' }),
          { 'content-type': 'application/problem+json' },
          422,
        )
      case '/not-found':
        return send(stampedJson({ error: 'x' }, subject(url, { status: 404 })), JSON_TYPE, 404)
      default:
        return send('plain')
    }
  }
  beforeAll(async () => {
    server = createServer(listener)
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve)
    })
    origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterAll(() => {
    server.close()
    server.closeAllConnections()
  })

  const REST = ['--tenant', 'acme', '--channel', 'external']
  const cases: { name: string; target: string; args?: string[]; want: number; wantOutput: RegExp }[] = [
    { name: 'inside JSON', target: TARGET, args: REST, want: 0, wantOutput: /^verified/ },
    { name: 'tenant and channel not said', target: TARGET, want: 3, wantOutput: /not checked {2}tenant, channel/ },
    { name: 'in the header', target: '/header', args: REST, want: 0, wantOutput: /in the Compliance-Stamp header/ },
    {
      name: 'behind the link',
      target: '/linked',
      args: REST,
      want: 0,
      wantOutput: /at http:.*well-known\/signet\/stamps\//,
    },
    {
      name: 'of a stream',
      target: '/streamed',
      args: REST,
      want: 0,
      wantOutput: /at http:.*well-known\/signet\/requests\/r1/,
    },
    { name: 'behind the right one of many links', target: '/links', args: REST, want: 0, wantOutput: /^verified/ },
    { name: 'no media type', target: '/no-type', args: REST, want: 0, wantOutput: /no media type/ },
    {
      name: 'another media type',
      target: '/swapped-type',
      args: REST,
      want: 1,
      wantOutput: /subject: [^]*media_type is «text\/csv», expected «text\/html»/,
    },
    {
      name: 'a second media type',
      target: '/added-type',
      args: REST,
      want: 1,
      wantOutput: /media_type is «text\/csv»/,
    },
    { name: 'a media type taken away', target: '/lost-type', args: REST, want: 1, wantOutput: /expected «»/ },
    { name: 'an error answer', target: '/not-found', args: REST, want: 0, wantOutput: /status 404/ },
    {
      name: 'with credentials',
      target: '/secret',
      args: [...REST, '--header', 'Authorization: Bearer t'],
      want: 0,
      wantOutput: /^verified/,
    },
    {
      name: 'moved from another URL',
      target: '/moved',
      args: REST,
      want: 1,
      wantOutput: /subject: the stamp belongs to another response/,
    },
    { name: 'a link to another stamp', target: '/wrong-link', args: REST, want: 1, wantOutput: /form: / },
    { name: 'unstamped', target: '/plain', want: 1, wantOutput: /presence: there is no stamp/ },
    {
      name: "Signet's own refusal",
      target: '/refused',
      want: 1,
      wantOutput: /it is Signet's own, POLICY_DENIED \(no approval\)/,
    },
  ]
  it.each(cases)('$name: exit $want', async ({ target, args = [], want, wantOutput }) => {
    const ended = await signet(['verify', `${origin}${target}`, '--keyring', keyring, ...args])
    expect(ended.stderr).toBe('')
    expect(ended.stdout).toMatch(wantOutput)
    expect(ended.code).toBe(want)
  })

  it('says that nothing listens there', async () => {
    const closed = createServer()
    await new Promise<void>((resolve) => {
      closed.listen(0, '127.0.0.1', resolve)
    })
    const url = `http://127.0.0.1:${(closed.address() as AddressInfo).port}/x`
    await new Promise((resolve) => closed.close(resolve))
    const ended = await signet(['verify', url, '--keyring', keyring])
    expect(ended).toEqual({ code: 2, stdout: '', stderr: `signet: cannot read ${url}: nothing listens there\n` })
  })

  it('knows channel and tenant of a listener of a signet up nearby', async () => {
    mkdirSync(inFolder('state'), { recursive: true })
    put('state/keyring.json', JSON.stringify(KEYRING))
    put('state/endpoints.json', JSON.stringify({ external: origin, internal: 'http://127.0.0.1:2', tenant: 'acme' }))
    const env = { SIGNET_STATE_DIR: inFolder('state') }
    expect(await signet(['verify', `${origin}${TARGET}`], { env })).toMatchObject({ code: 0 })
    put('state/endpoints.json', JSON.stringify({ external: 'http://127.0.0.1:2', internal: origin, tenant: 'acme' }))
    expect(await signet(['verify', `${origin}${TARGET}`], { env })).toMatchObject({ code: 1 })
  })
})
