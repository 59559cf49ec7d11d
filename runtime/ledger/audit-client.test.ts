import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { AuditEvent } from '#core/audit/event.ts'
import { createAuditClient, type AuditClient } from './audit-client.ts'

let server: Server
let audit: AuditClient
let directory: string
let answer: { status: number; body: string }
const seen: { path: string; authorization: string | undefined; body: string }[] = []
beforeAll(async () => {
  server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => {
      seen.push({ path: `${request.method} ${request.url}`, authorization: request.headers.authorization, body })
      if (answer.status === 0) request.socket.destroy()
      else response.writeHead(answer.status).end(answer.body)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  directory = await mkdtemp(join(tmpdir(), 'signet-audit-client-test-'))
  await writeFile(join(directory, 'token'), 'a-token\n')
  audit = createAuditClient({
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    tokenFile: join(directory, 'token'),
    ca: () => undefined,
    timeoutMs: 1_000,
  })
})
afterAll(async () => {
  await audit.close()
  server.closeAllConnections()
  server.close()
  await rm(directory, { recursive: true, force: true })
})

const EVENT = { event_id: 'e1' } as AuditEvent

describe('recording an event at the ledger', () => {
  const cases: { name: string; answer: typeof answer; want: string | undefined }[] = [
    { name: 'taken', answer: { status: 201, body: '{}' }, want: undefined },
    { name: 'there already', answer: { status: 409, body: '{"code":"EVENT_ID_CONFLICT"}' }, want: undefined },
    { name: 'busy', answer: { status: 503, body: 'busy' }, want: 'LEDGER_UNREACHABLE' },
    { name: 'too many', answer: { status: 429, body: '' }, want: 'LEDGER_UNREACHABLE' },
    { name: 'not permitted', answer: { status: 403, body: '{"code":"FORBIDDEN"}' }, want: 'LEDGER_REFUSED' },
    { name: 'not of the form', answer: { status: 400, body: '{"code":"<b>"}' }, want: 'LEDGER_REFUSED' },
    { name: 'sent elsewhere', answer: { status: 302, body: '' }, want: 'LEDGER_REFUSED' },
    { name: 'no answer', answer: { status: 0, body: '' }, want: 'LEDGER_UNREACHABLE' },
    { name: 'an endless answer', answer: { status: 400, body: 'x'.repeat(200_000) }, want: 'LEDGER_REFUSED' },
  ]
  it.each(cases)('$name', async ({ answer: given, want }) => {
    answer = given
    const got = await audit.record(EVENT).then(
      () => undefined,
      (error: { code: string; message: string }) => (expect(error.message).not.toContain('a-token'), error.code),
    )
    expect(got).toBe(want)
    expect(seen.at(-1)).toEqual({
      path: 'POST /api/audit/logs',
      authorization: 'Bearer a-token',
      body: JSON.stringify(EVENT),
    })
  })
})
