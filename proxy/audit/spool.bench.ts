/** Run by hand: `node proxy/audit/spool.bench.ts [directory]`. Prints microseconds per append, group sync on. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { pino } from 'pino'
import { openSpool } from './spool.ts'

const APPENDS = 100_000
const base = process.argv[2] ?? tmpdir()

for (const lineBytes of [1024, 2048]) {
  for (const burst of [1, 32]) {
    const dir = mkdtempSync(join(base, 'signet-spool-bench-'))
    let syncs = 0
    let syncSeconds = 0
    const spool = openSpool({
      dir,
      session: '00000000-0000-4000-8000-000000000000',
      startedAt: new Date(),
      logger: pino({ level: 'silent' }),
      maxBytes: 4 * 1024 ** 3,
      onSynced(seconds) {
        syncs += 1
        syncSeconds += seconds
      },
    })
    const event = JSON.stringify({ event_type: 'egress.decided', filler: 'x'.repeat(lineBytes) }).slice(
      0,
      lineBytes - 80,
    )
    const nanoseconds: number[] = []
    for (let done = 0; done < APPENDS; done += burst) {
      for (let i = 0; i < burst; i += 1) {
        // Built by concatenation as the journal does, so that flattening the string is part of the price.
        const line = `{"event":${event},"session":"00000000-0000-4000-8000-000000000000","spool_seq":${spool.lastSeq + 1}}`
        const start = process.hrtime.bigint()
        spool.append(line)
        nanoseconds.push(Number(process.hrtime.bigint() - start))
      }
      await turn()
    }
    await spool.close()
    rmSync(dir, { recursive: true })
    nanoseconds.sort((a, b) => a - b)
    const at = (share: number) => ((nanoseconds[Math.floor(nanoseconds.length * share)] ?? 0) / 1000).toFixed(1)
    const mean = nanoseconds.reduce((sum, value) => sum + value, 0) / nanoseconds.length / 1000
    console.log(
      `${lineBytes} B, ${burst} a turn: mean ${mean.toFixed(1)} µs, median ${at(0.5)}, p99 ${at(0.99)}, p99.9 ${at(0.999)}; ${syncs} syncs of ${((syncSeconds / Math.max(syncs, 1)) * 1000).toFixed(1)} ms`,
    )
  }
}
