import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { Registry } from 'prom-client'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { openJournal } from '#proxy/audit/journal.ts'
import { createLedgerClient } from '#proxy/audit/ledger-client.ts'
import { openSpool } from '#proxy/audit/spool.ts'
import { startFakeLedger } from '#test/support/fake-ledger.ts'

const logger = pino({ level: 'silent' })
let dir: string

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'signet-crash-'))
})

afterEach(() => {
  rmSync(dir, { recursive: true, force: true })
})

/** Runs a program of this folder and returns the lines that it reported; kills it once it has reported `killAfter` of them. */
async function run(
  program: string,
  args: string[],
  options: { killAfter?: number; fileBlocks?: number } = {},
): Promise<string[]> {
  const command = [process.execPath, join(import.meta.dirname, program), ...args]
  const child =
    options.fileBlocks === undefined
      ? spawn(command[0] ?? '', command.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] })
      : spawn('/bin/sh', ['-c', `ulimit -f ${options.fileBlocks} && exec "$0" "$@"`, ...command], {
          stdio: ['ignore', 'pipe', 'inherit'],
        })
  const ended = new Promise<NodeJS.Signals | null>((resolve) => child.once('exit', (_code, signal) => resolve(signal)))
  let text = ''
  for await (const chunk of child.stdout) {
    text += String(chunk)
    if (options.killAfter !== undefined && text.split('\n').length > options.killAfter) child.kill('SIGKILL')
  }
  expect(await ended).toBe('SIGKILL')
  return text.split('\n').slice(0, -1)
}

/** Every (session, spool_seq) in the spool, in order. */
async function recoverAll(): Promise<string[]> {
  const spool = openSpool({ dir, session: randomUUID(), startedAt: new Date(), logger })
  const found: string[] = []
  for (let head = spool.head(); head !== null && !head.current; head = spool.head()) {
    const batch = head.pending ? await spool.read(500, 1_000_000) : null
    if (batch === null) {
      await spool.forgetSession(head.session)
      continue
    }
    for (let index = 0; index < batch.count; index += 1) {
      const seq = batch.seq(index)
      const line = batch.line(index).toString('utf8')
      expect(JSON.parse(line)).toMatchObject({ session: head.session, spool_seq: seq })
      found.push(`${head.session} ${seq}`)
    }
    spool.acknowledge(batch, null)
  }
  await spool.close()
  return found
}

it('kill -9 while appending: every line that was reported is there, once, in order', async () => {
  const want: { session: string; reported: number }[] = []
  for (let round = 0; round < 5; round += 1) {
    const session = randomUUID()
    const reported = await run('append-loop.ts', [dir, session, '16384'], { killAfter: 100 + round * 333 })
    want.push({ session, reported: reported.length })
  }
  const found = await recoverAll()
  for (const { session, reported } of want) {
    const seqs = found.filter((entry) => entry.startsWith(session)).map((entry) => Number(entry.split(' ')[1]))
    // The kill may come between the append and its report: one more may be there.
    expect(seqs.length).toBeGreaterThanOrEqual(reported)
    expect(seqs.length).toBeLessThanOrEqual(reported + 1)
    expect(seqs).toEqual(seqs.map((_, index) => index + 1))
  }
})

it('a limit of the kernel on the file size: short writes and EFBIG lose nothing and leave no hole', async () => {
  const session = randomUUID()
  // In blocks of 512 or 1024 bytes, by shell: far below the size of a segment.
  const reported = await run('append-loop.ts', [dir, session, '4194304', '12'], { fileBlocks: 64 })
  expect(reported.filter((line) => line === 'refused SPOOL_UNAVAILABLE')).toHaveLength(12)
  const kept = reported.filter((line) => !line.startsWith('refused'))
  expect(readdirSync(dir).filter((name) => name.endsWith('.spool')).length).toBeGreaterThanOrEqual(6)
  expect(await recoverAll()).toEqual(kept.map((seq) => `${session} ${seq}`))
})

it('kill -9 while sending, again and again: the ledger ends with every event that was reported, once', async () => {
  const ledger = await startFakeLedger()
  const tokenFile = join(dir, 'token')
  const keyringFile = join(dir, 'keyring.json')
  writeFileSync(tokenFile, ledger.token)
  writeFileSync(keyringFile, ledger.keyringText)
  const spoolDir = join(dir, 'spool')
  const reported: string[] = []
  for (let round = 0; round < 5; round += 1) {
    // A ledger that fails now and then at the same time.
    ledger.troubles.ingest.push({ kind: 'fail-after' }, { kind: 'fine' }, { kind: 'reset' })
    reported.push(...(await run('journal-loop.ts', [spoolDir, ledger.url, tokenFile, keyringFile], { killAfter: 300 })))
  }
  const client = createLedgerClient({ url: ledger.url, token: ledger.token })
  const journal = await openJournal({
    spool: { dir: spoolDir },
    client,
    keyring: ledger.keyring,
    logger,
    metrics: new Registry(),
    clock: () => new Date(),
    newId: randomUUID,
    software: 'test',
  })
  await journal.close(10_000)
  await client.close()
  await ledger.stop()
  const recorded = ledger.recorded.map(({ eventId }) => eventId)
  expect(new Set(recorded).size).toBe(recorded.length)
  const missing = reported.filter((id) => !recorded.includes(id))
  expect(missing).toEqual([])
  expect(recorded.length - reported.length).toBeLessThanOrEqual(5)
  // In each session the numbers have no hole, and each but the last was closed for its dead owner.
  for (const [session, { closed }] of ledger.sessions) {
    const seqs = ledger.recorded.filter((entry) => entry.session === session).map(({ spoolSeq }) => spoolSeq)
    expect(seqs).toEqual(seqs.map((_, index) => index + 1))
    expect(closed).toContainEqual({ last_spool_seq: seqs.length, clean: seqs.length === 0 })
  }
  expect(ledger.sessions.size).toBe(6)
})
