import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ErrorCode } from '#core/error/codes.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { realDisk, type SpoolDisk } from './disk.ts'
import { FRAME_HEADER_BYTES, MAX_LINE_BYTES } from './frame.ts'
import { SEGMENT_HEADER_BYTES } from './segment.ts'
import { openSpool, type Spool, type SpoolOptions } from './spool.ts'

const FIRST = '00000000-0000-4000-8000-000000000001'
const SECOND = '00000000-0000-4000-8000-000000000002'
const STARTED = new Date('2026-11-23T09:30:00.123Z')

let base: string
let open: Spool[] = []
let logged: { level: number; msg: string }[] = []

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'signet-spool-'))
  logged = []
})

afterEach(async () => {
  for (const spool of open) await spool.close()
  open = []
  rmSync(base, { recursive: true, force: true })
})

const logger = pino({ level: 'info' }, { write: (line: string) => void logged.push(JSON.parse(line)) })
const errors = () => logged.filter(({ level }) => level >= 50).map(({ msg }) => msg)

function start(options: Partial<SpoolOptions> = {}): Spool {
  const spool = openSpool({ dir: base, session: FIRST, startedAt: STARTED, logger, ...options })
  open.push(spool)
  return spool
}

/** What is in the spool for the ledger, session by session, as the sender reads it. */
async function drain(spool: Spool): Promise<{ session: string; seqs: number[]; lines: string[]; lastSeq: number }[]> {
  const sessions: { session: string; seqs: number[]; lines: string[]; lastSeq: number }[] = []
  for (;;) {
    const head = spool.head()
    if (head === null || (head.current && !head.pending)) return sessions
    if (!head.pending) {
      await spool.forgetSession(head.session)
      continue
    }
    let entry = sessions.at(-1)
    if (entry?.session !== head.session) {
      entry = { session: head.session, seqs: [], lines: [], lastSeq: head.lastSeq }
      sessions.push(entry)
    }
    const batch = await spool.read(7, 100_000)
    if (batch === null) return sessions
    for (let index = 0; index < batch.count; index += 1) {
      entry.seqs.push(batch.seq(index))
      entry.lines.push(batch.line(index).toString())
    }
    spool.acknowledge(batch, null)
  }
}

function code(action: () => unknown): ErrorCode | 'none' {
  try {
    action()
  } catch (error) {
    if (error instanceof SignetError) return error.code
    throw error
  }
  return 'none'
}

const segments = () => readdirSync(base).filter((name) => name.endsWith('.spool'))
const count = (upTo: number) => Array.from({ length: upTo }, (_, index) => index + 1)

/** Files as a crash leaves them: the bytes are there, nothing was closed. */
async function abandoned(lines: readonly string[]): Promise<string> {
  const spool = start()
  for (const line of lines) spool.append(line)
  const name = segments().at(-1) ?? ''
  await spool.close()
  return join(base, name)
}

it('gives lines back in order, over segments, and deletes what is acknowledged', async () => {
  const spool = start({ segmentBytes: 4096, maxBytes: 1_000_000 })
  const lines = count(100).map((n) => `{"n":${n},"pad":"${'ü'.repeat(100)}"}`)
  for (const line of lines) spool.append(line)
  expect(segments().length).toBeGreaterThan(5)
  expect(spool.pendingEvents).toBe(100)
  expect(spool.pendingBytes).toBe(lines.reduce((sum, line) => sum + Buffer.byteLength(line), 0))
  expect(await drain(spool)).toEqual([{ session: FIRST, seqs: count(100), lines, lastSeq: 100 }])
  await spool.saveCursor()
  expect(segments()).toHaveLength(1)
  expect(spool.pendingEvents).toBe(0)
  expect(spool.pendingBytes).toBe(0)
  expect(spool.diskBytes).toBe(statSync(join(base, segments()[0] ?? '')).size)
})

it('takes bytes as well as text, and a new segment for what does not fit', async () => {
  const spool = start({ segmentBytes: 4096, maxBytes: 4_000_000 })
  const long = 'x'.repeat(MAX_LINE_BYTES)
  spool.append(Buffer.from('bytes'))
  spool.append(long)
  spool.append('€'.repeat(30_000))
  spool.append('after')
  const [session] = await drain(spool)
  expect(session?.lines.map((line) => line.length)).toEqual([5, MAX_LINE_BYTES, 30_000, 5])
})

describe('a line that no frame can hold is refused and takes no number', () => {
  const cases: { name: string; line: string | Uint8Array }[] = [
    { name: 'empty', line: '' },
    { name: 'too long', line: 'x'.repeat(MAX_LINE_BYTES + 1) },
    { name: 'too long in bytes only', line: 'ü'.repeat(MAX_LINE_BYTES / 2 + 1) },
    { name: 'with a line feed', line: '{"a":1}\n{"b":2}' },
    { name: 'bytes with a line feed at the end', line: Buffer.from('x\n') },
  ]
  it.each(cases)('$name', async ({ line }) => {
    const spool = start()
    spool.append('before')
    expect(code(() => spool.append(line))).toBe('AUDIT_EVENT_INVALID')
    spool.append('after')
    expect((await drain(spool))[0]).toMatchObject({ seqs: [1, 2], lines: ['before', 'after'] })
  })
})

it('does not share its directory, and names the owner', () => {
  start()
  expect(() => start({ session: SECOND })).toThrowError(
    new RegExp(`in use by process ${process.pid}, running since 2026`),
  )
  expect(code(() => start({ session: SECOND }))).toBe('SPOOL_LOCKED')
})

it.each([
  { name: 'tiny segments', options: { segmentBytes: 100 } },
  { name: 'fewer than four segments', options: { segmentBytes: 8192, maxBytes: 16_384 } },
  { name: 'a sync that is later than promised', options: { fsyncIntervalMs: 11 } },
])('refuses $name', ({ options }) => {
  expect(code(() => start(options))).toBe('CONFIG_INVALID')
})

describe('recovery', () => {
  const LINES = ['{"n":1}', '{"n":2,"text":"größer"}', '{"n":3,"last":true}']
  const lastFrame = FRAME_HEADER_BYTES + Buffer.byteLength(LINES[2] ?? '')

  it('cuts a tail torn at any byte of the last frame', async () => {
    for (let kept = 0; kept <= lastFrame; kept += 1) {
      rmSync(base, { recursive: true, force: true })
      const path = await abandoned(LINES)
      const size = statSync(path).size
      truncateSync(path, size - lastFrame + kept)
      const next = start({ session: SECOND })
      const want = kept === lastFrame ? 3 : 2
      expect(await drain(next)).toEqual([
        { session: FIRST, seqs: count(want), lines: LINES.slice(0, want), lastSeq: want },
      ])
      expect(errors()).toEqual([])
      await next.close()
    }
  })

  it('cuts a tail of zeros or of wrong bytes, as a power failure leaves it', async () => {
    for (const tail of [
      Buffer.alloc(5000),
      Buffer.alloc(40, 0xff),
      Buffer.from([0xff, 0x53, 0x47, 0xfe, 1, 2, 3, 4, 5]),
    ]) {
      rmSync(base, { recursive: true, force: true })
      const path = await abandoned(LINES)
      const bytes = readFileSync(path)
      writeFileSync(path, Buffer.concat([bytes, tail]))
      const next = start({ session: SECOND })
      expect(statSync(path).size).toBe(bytes.length)
      expect((await drain(next))[0]).toMatchObject({ seqs: [1, 2, 3] })
      await next.close()
    }
  })

  it('does not deliver twice what is in a file twice', async () => {
    const path = await abandoned(LINES)
    const bytes = readFileSync(path)
    const last = bytes.length - lastFrame
    const [header, middle] = [bytes.subarray(0, SEGMENT_HEADER_BYTES), bytes.subarray(SEGMENT_HEADER_BYTES, last)]
    writeFileSync(path, Buffer.concat([header, middle, middle, bytes.subarray(last), middle]))
    const next = start({ session: SECOND })
    expect(errors().join()).toContain('corrupt segment')
    expect(next.pendingEvents).toBe(3)
    expect(await drain(next)).toEqual([{ session: FIRST, seqs: [1, 2, 3], lines: LINES, lastSeq: 3 }])
  })

  it('delivers the whole lines of a corrupt segment, then keeps the file under another name', async () => {
    const path = await abandoned(LINES)
    const bytes = readFileSync(path)
    // A bit within the text of the second line: a good line follows.
    const at = bytes.indexOf('größer')
    bytes[at] = (bytes[at] ?? 0) ^ 1
    writeFileSync(path, bytes)
    const next = start({ session: SECOND })
    expect(errors().join()).toContain('corrupt segment')
    expect(await drain(next)).toEqual([{ session: FIRST, seqs: [1, 3], lines: [LINES[0], LINES[2]], lastSeq: 3 }])
    expect(readFileSync(`${path}.corrupt`)).toEqual(bytes)
    expect(segments()).toHaveLength(1)
    expect(next.diskBytes).toBe(SEGMENT_HEADER_BYTES + bytes.length)
  })

  it('finds out whose a segment is by its lines where the header is damaged', async () => {
    const line = `{"event":{},"session":"${FIRST}","spool_seq":1}`
    const path = await abandoned([line])
    const bytes = readFileSync(path)
    bytes[10] = (bytes[10] ?? 0) ^ 0xff
    writeFileSync(path, bytes)
    const next = start({ session: SECOND })
    expect(await drain(next)).toEqual([{ session: FIRST, seqs: [1], lines: [line], lastSeq: 1 }])
    expect(readdirSync(base)).toContain(`${path.split('/').at(-1)}.corrupt`)
  })

  it('keeps a segment that says nothing, loudly, and removes one that a crash left empty', async () => {
    writeFileSync(
      join(base, 'segment-0000000000000003.spool'),
      'this is no segment at all, but somebody may miss it: keep it safe!',
    )
    writeFileSync(join(base, 'segment-0000000000000004.spool'), 'SGSP')
    const spool = start()
    expect(readdirSync(base)).toContain('segment-0000000000000003.spool.corrupt')
    expect(segments()).toEqual(['segment-0000000000000005.spool'])
    expect(errors()).toHaveLength(1)
    expect(await drain(spool)).toEqual([])
  })

  it('sends all again where the cursor cannot be read, and goes on where it can', async () => {
    const first = start()
    for (const line of LINES) first.append(line)
    const batch = await first.read(2, 1000)
    if (batch !== null) first.acknowledge(batch, null)
    await first.close()
    const second = start({ session: SECOND })
    expect(second.pendingEvents).toBe(1)
    expect((await second.read(10, 1000))?.seq(0)).toBe(3)
    await second.close()
    writeFileSync(join(base, 'cursor.json'), '{"version":1,"segment":')
    const third = start({ session: '00000000-0000-4000-8000-000000000003' })
    expect(errors().join()).toContain('cursor is unreadable')
    expect((await drain(third))[0]).toMatchObject({ seqs: [1, 2, 3] })
  })

  it('knows a session in which nothing was written, so that it can be closed', async () => {
    await start().close()
    const next = start({ session: SECOND })
    expect(next.head()).toEqual({
      session: FIRST,
      startedAtMs: STARTED.getTime(),
      lastSeq: 0,
      current: false,
      pending: false,
    })
    await next.forgetSession(FIRST)
    expect(next.head()).toMatchObject({ session: SECOND, current: true })
    expect(segments()).toHaveLength(1)
  })

  it('loses nothing that was written before a crash, and doubles nothing, wherever the crash is', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.array(fc.string({ minLength: 1, maxLength: 3000, unit: 'binary' }), { minLength: 0, maxLength: 12 }),
          { minLength: 1, maxLength: 4 },
        ),
        fc.nat(),
        async (runs, cut) => {
          rmSync(base, { recursive: true, force: true })
          const want = new Map<string, string[]>()
          for (const [index, run] of runs.entries()) {
            const session = `00000000-0000-4000-8000-0000000001${String(index).padStart(2, '0')}`
            const spool = start({ session, segmentBytes: 4096, maxBytes: 10_000_000 })
            const lines = run.map((line) => line.toWellFormed().replaceAll('\n', ' '))
            for (const line of lines) spool.append(line)
            want.set(session, lines)
            await spool.close()
            if (index < runs.length - 1) continue
            // The crash: the last file of the last run ends anywhere after its header, and every whole frame counts.
            const path = join(base, segments().sort().at(-1) ?? '')
            const size = statSync(path).size
            const at = SEGMENT_HEADER_BYTES + (cut % (size - SEGMENT_HEADER_BYTES + 1))
            truncateSync(path, at)
            let end = size
            while (end > at) end -= FRAME_HEADER_BYTES + Buffer.byteLength(lines.pop() ?? '')
          }
          const next = start({ session: SECOND })
          expect(errors()).toEqual([])
          const sessions = await drain(next)
          for (const [session, lines] of want) {
            const got = sessions.find((entry) => entry.session === session)
            expect(got?.lines ?? []).toEqual(lines)
            expect(got?.seqs ?? []).toEqual(count(lines.length))
          }
          await next.close()
          open = []
        },
      ),
      { numRuns: 60 },
    )
  })
})

/** A real disk whose next calls fail as told. */
function failingDisk() {
  const plan = {
    write: [] as (() => number)[],
    truncate: [] as (() => void)[],
    sync: [] as (() => Promise<void>)[],
    syncs: 0,
    fd: -1,
  }
  const disk: SpoolDisk = {
    ...realDisk,
    open: (path) => {
      plan.fd = realDisk.open(path)
      return plan.fd
    },
    write: (fd, bytes, length) => plan.write.shift()?.() ?? realDisk.write(fd, bytes, length),
    truncate: (fd, length) => (plan.truncate.shift() ?? (() => realDisk.truncate(fd, length)))(),
    sync: async (fd) => {
      plan.syncs += 1
      await (plan.sync.shift() ?? (() => realDisk.sync(fd)))()
    },
  }
  return { disk, plan }
}

function fault(errno: string): never {
  throw Object.assign(new Error(`${errno}: made by the test`), { code: errno })
}

describe('disk faults', () => {
  const cases: { name: string; first: () => number; truncate?: () => void }[] = [
    { name: 'no space', first: () => fault('ENOSPC') },
    { name: 'quota', first: () => fault('EDQUOT') },
    { name: 'input/output error', first: () => fault('EIO') },
    { name: 'a short write', first: () => 11 },
    { name: 'nothing written', first: () => 0 },
    { name: 'no space, and the tail cannot be cut', first: () => fault('ENOSPC'), truncate: () => fault('EIO') },
  ]
  it.each(cases)('$name: refused, then goes on without a hole', async ({ first, truncate }) => {
    const { disk, plan } = failingDisk()
    const spool = start({ disk })
    spool.append('one')
    // As the kernel does it: half of the frame is in the file when the call fails.
    plan.write.push(() => {
      realDisk.write(plan.fd, Buffer.from([0xff, 0x53, 0x47, 0xfe, 0, 0, 0]), 7)
      return first()
    })
    if (truncate !== undefined) plan.truncate.push(truncate)
    expect(code(() => spool.append('two, lost'))).toBe('SPOOL_UNAVAILABLE')
    expect(spool.writable).toBe(false)
    expect(errors()).toHaveLength(1)
    spool.append('two')
    expect(spool.writable).toBe(true)
    spool.append('three')
    expect((await drain(spool))[0]).toMatchObject({ seqs: [1, 2, 3], lines: ['one', 'two', 'three'] })
    await spool.close()
    const next = start({ session: SECOND })
    expect(next.pendingEvents).toBe(0)
  })

  it('becomes writable by itself when there is space again', async () => {
    const { disk, plan } = failingDisk()
    const spool = start({ disk })
    plan.write.push(() => fault('ENOSPC'))
    expect(code(() => spool.append('lost'))).toBe('SPOOL_UNAVAILABLE')
    expect(spool.writable).toBe(false)
    await expect.poll(() => spool.writable, { timeout: 3000 }).toBe(true)
    spool.append('kept')
    expect((await drain(spool))[0]).toMatchObject({ seqs: [1], lines: ['kept'] })
  })

  it('starts on a full disk, is not ready, and comes back', async () => {
    const { disk, plan } = failingDisk()
    plan.write.push(
      () => fault('ENOSPC'),
      () => fault('ENOSPC'),
    )
    const spool = start({ disk })
    expect(spool.writable).toBe(false)
    expect(code(() => spool.append('lost'))).toBe('SPOOL_UNAVAILABLE')
    await expect.poll(() => spool.writable, { timeout: 3000 }).toBe(true)
    spool.append('kept')
    expect((await drain(spool))[0]).toMatchObject({ seqs: [1], lines: ['kept'] })
    expect(segments()).toHaveLength(1)
  })

  it('never reports as durable what was written before a failed sync', async () => {
    const { disk, plan } = failingDisk()
    const spool = start({ disk, fsyncIntervalMs: 0 })
    await spool.synced()
    plan.sync.push(() => Promise.reject(new Error('EIO')))
    spool.append('one')
    await expect(spool.synced()).rejects.toMatchObject({ code: 'SPOOL_UNAVAILABLE' })
    // The kernel would say yes now; the event stays not durable all the same.
    await expect(spool.synced()).rejects.toMatchObject({ code: 'SPOOL_UNAVAILABLE' })
    expect(spool.writable).toBe(false)
    expect(code(() => spool.append('lost'))).toBe('SPOOL_UNAVAILABLE')
    await expect.poll(() => spool.writable, { timeout: 3000 }).toBe(true)
    spool.append('two')
    await spool.synced()
    expect(segments()).toHaveLength(2)
    expect((await drain(spool))[0]).toMatchObject({ seqs: [1, 2], lines: ['one', 'two'] })
  })

  it('leaves no pile of empty segments while syncs keep failing', async () => {
    const { disk, plan } = failingDisk()
    const spool = start({ disk, fsyncIntervalMs: 0 })
    spool.append('one')
    plan.sync.push(...count(4).map(() => () => Promise.reject(new Error('EIO'))))
    await expect.poll(() => plan.sync.length, { timeout: 5000 }).toBe(0)
    await expect.poll(() => spool.writable, { timeout: 3000 }).toBe(true)
    expect(segments()).toHaveLength(2)
    expect(spool.diskBytes).toBe(segments().reduce((sum, name) => sum + statSync(join(base, name)).size, 0))
  })

  it('skips a segment that cannot be read, and keeps it', async () => {
    const spool = start()
    spool.append('one')
    const [name = ''] = segments()
    truncateSync(join(base, name), SEGMENT_HEADER_BYTES + 3)
    await expect(spool.read(10, 1000)).rejects.toThrow('known end')
    spool.skipSegment()
    spool.append('two')
    expect((await drain(spool))[0]).toMatchObject({ seqs: [2], lines: ['two'] })
    await spool.saveCursor()
    expect(readdirSync(base)).toContain(`${name}.corrupt`)
  })
})

describe('limits', () => {
  it('refuses what does not fit, is not ready shortly before, and takes events again when the ledger has some', async () => {
    const spool = start({ segmentBytes: 4096, maxBytes: 16_384 })
    const line = 'x'.repeat(1000)
    let appended = 0
    const readiness: boolean[] = []
    while (code(() => spool.append(line)) === 'none') {
      appended += 1
      readiness.push(spool.writable)
    }
    expect(readiness[0]).toBe(true)
    expect(readiness.at(-1)).toBe(false)
    expect(spool.diskBytes).toBeLessThanOrEqual(16_384)
    expect(errors()).toHaveLength(1)
    await drain(spool)
    await spool.saveCursor()
    expect(spool.writable).toBe(true)
    spool.append(line)
    expect(spool.lastSeq).toBe(appended + 1)
  })

  it('counts quarantined files', () => {
    writeFileSync(join(base, 'segment-0000000000000001.spool.corrupt'), Buffer.alloc(16_000))
    const spool = start({ segmentBytes: 4096, maxBytes: 16_384 })
    expect(spool.writable).toBe(false)
    expect(code(() => spool.append('x'.repeat(400)))).toBe('SPOOL_UNAVAILABLE')
  })

  it('a batch ends at its limits, and a longer line goes alone', async () => {
    const spool = start()
    for (const length of [10, 10, 500, 10]) spool.append('x'.repeat(length))
    const sizes: number[][] = []
    for (let batch = await spool.read(2, 100); batch !== null && batch.count > 0; batch = await spool.read(2, 100)) {
      sizes.push(Array.from({ length: batch.count }, (_, index) => batch.line(index).length))
      spool.acknowledge(batch, null)
    }
    expect(sizes).toEqual([[10, 10], [500], [10]])
  })
})

describe('a group', () => {
  it('is written at once at its end, after what came before it', async () => {
    const { disk, plan } = failingDisk()
    const spool = start({ disk })
    const sizes: number[] = []
    const counted: SpoolDisk['write'] = (fd, bytes, length) => (sizes.push(length), realDisk.write(fd, bytes, length))
    plan.write.push(() => -1)
    disk.write = counted
    spool.append('zero')
    spool.group(() => {
      spool.append('one')
      spool.append('two ', 'parts', '!')
      expect(spool.lastSeq).toBe(3)
      expect(sizes).toHaveLength(1)
      expect(spool.pendingEvents).toBe(1)
    })
    expect(sizes).toHaveLength(2)
    expect((await drain(spool))[0]).toMatchObject({ seqs: [1, 2, 3], lines: ['zero', 'one', 'two parts!'] })
  })

  it('that cannot be written is refused as a whole, and its numbers are free', async () => {
    const { disk, plan } = failingDisk()
    const spool = start({ disk })
    spool.append('before')
    plan.write.push(() => {
      throw Object.assign(new Error('full'), { code: 'ENOSPC' })
    })
    const group = (): void =>
      spool.group(() => {
        spool.append('lost')
        spool.append('lost too')
      })
    expect(code(group)).toBe('SPOOL_UNAVAILABLE')
    expect(spool.lastSeq).toBe(1)
    spool.append('after')
    expect((await drain(spool))[0]).toMatchObject({ seqs: [1, 2], lines: ['before', 'after'] })
  })

  it('keeps the others where one line is refused', async () => {
    const spool = start()
    spool.group(() => {
      spool.append('one')
      expect(code(() => spool.append('a line\nfeed'))).toBe('AUDIT_EVENT_INVALID')
      spool.append('two')
    })
    expect((await drain(spool))[0]).toMatchObject({ seqs: [1, 2], lines: ['one', 'two'] })
  })

  it('that is too large to wait is written in parts; that one of them failed fails it', async () => {
    const { disk, plan } = failingDisk()
    const spool = start({ disk })
    const long = 'x'.repeat(300_000)
    spool.group(() => {
      spool.append(long)
      expect(spool.pendingEvents).toBe(1)
      spool.append('short')
    })
    plan.write.push(() => {
      throw Object.assign(new Error('full'), { code: 'ENOSPC' })
    })
    const group = (): void =>
      spool.group(() => {
        expect(code(() => spool.append(long))).toBe('SPOOL_UNAVAILABLE')
        spool.append('kept, although nothing of it leaves')
      })
    expect(code(group)).toBe('SPOOL_UNAVAILABLE')
    expect((await drain(spool))[0]?.lines.slice(1)).toEqual(['short', 'kept, although nothing of it leaves'])
  })
})

describe('lines that were just appended', () => {
  const RECENT = { batches: 2, batchItems: 10, batchBytes: 1_000 }

  it('are read without the disk', async () => {
    const spool = start({ recent: RECENT })
    spool.append('one')
    spool.append('zwölf')
    truncateSync(join(base, segments()[0] ?? ''), SEGMENT_HEADER_BYTES)
    const batch = await spool.read(10, 1_000)
    expect([batch?.seq(0), batch?.seq(1)]).toEqual([1, 2])
    expect(batch?.bodyOf([0, 1]).toString()).toBe('one\nzwölf\n')
  })

  it('are read again without the disk as soon as what had to be read from it is done with', async () => {
    const spool = start({ recent: RECENT })
    for (const n of count(35)) spool.append(`line ${n}`)
    const counts: number[] = []
    for (const items of [15, 15, 3, 15]) {
      const batch = await spool.read(items, 1_000)
      counts.push(batch?.count ?? 0)
      if (batch !== null) spool.acknowledge(batch, null)
    }
    truncateSync(join(base, segments()[0] ?? ''), SEGMENT_HEADER_BYTES)
    counts.push((await spool.read(15, 1_000))?.count ?? 0)
    // Two batches are kept: 21 to 30, which is asked for in parts, and 31 to 35.
    expect(counts).toEqual([15, 5, 3, 7, 5])
  })

  it('are the same lines in the same order as on the disk, whoever is faster', async () => {
    const line = fc
      .string({ minLength: 1, maxLength: 300, unit: 'binary' })
      .map((text) => text.toWellFormed().replaceAll('\n', ' '))
    const step = fc.oneof(
      { weight: 5, arbitrary: fc.array(line, { minLength: 1, maxLength: 15 }) },
      { weight: 2, arbitrary: fc.constant('read' as const) },
      { weight: 1, arbitrary: fc.constant('read a few' as const) },
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        rmSync(base, { recursive: true, force: true })
        const spool = start({ recent: RECENT, segmentBytes: 4096, maxBytes: 10_000_000 })
        const want: string[] = []
        const got: string[] = []
        const read = async (items: number): Promise<boolean> => {
          const batch = await spool.read(items, 1_000)
          if (batch === null || batch.count === 0) return false
          for (let index = 0; index < batch.count; index += 1) {
            got.push(batch.line(index).toString())
            expect(batch.seq(index)).toBe(got.length)
          }
          spool.acknowledge(batch, null, batch.count, true)
          return true
        }
        for (const each of steps) {
          if (each === 'read') await read(10)
          else if (each === 'read a few') await read(3)
          else {
            spool.group(() => {
              for (const text of each) spool.append(text)
            })
            want.push(...each)
          }
        }
        while (await read(10)) continue
        expect(got).toEqual(want)
        expect(spool.pendingEvents).toBe(0)
        await spool.close()
        open = []
      }),
      { numRuns: 60 },
    )
  })
})

describe('sync', () => {
  it('follows within the interval without being asked, once for many appends', async () => {
    const { disk, plan } = failingDisk()
    const spool = start({ disk, fsyncIntervalMs: 5 })
    await spool.synced()
    plan.syncs = 0
    for (const n of count(50)) spool.append(`line ${n}`)
    expect(plan.syncs).toBe(0)
    await sleep(60)
    expect(plan.syncs).toBe(1)
    await sleep(40)
    expect(plan.syncs).toBe(1)
  })

  it('waiters of one turn share one sync, and only what was written before counts', async () => {
    const { disk, plan } = failingDisk()
    const spool = start({ disk, fsyncIntervalMs: 10 })
    await spool.synced()
    plan.syncs = 0
    spool.append('one')
    const waiters = [spool.synced(), spool.synced()]
    spool.append('two')
    waiters.push(spool.synced())
    await Promise.all(waiters)
    expect(plan.syncs).toBe(1)
    await spool.synced()
    expect(plan.syncs).toBe(1)
  })

  it('a waiter during a sync waits for the next one', async () => {
    const { disk, plan } = failingDisk()
    const spool = start({ disk, fsyncIntervalMs: 0 })
    await spool.synced()
    plan.syncs = 0
    let release: () => void = () => undefined
    plan.sync.push(() => new Promise((resolve) => (release = resolve)))
    spool.append('one')
    await expect.poll(() => plan.syncs).toBe(1)
    spool.append('two')
    let done = false
    const second = spool.synced().then(() => (done = true))
    await sleep(20)
    expect(done).toBe(false)
    release()
    await second
    expect(plan.syncs).toBe(2)
  })
})
