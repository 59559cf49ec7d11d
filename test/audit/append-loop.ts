/** A process that fills a spool until it is killed or the disk refuses: reports on standard output each line whose append returned. */
import { setImmediate as turn } from 'node:timers/promises'
import { pino } from 'pino'
import { openSpool } from '#proxy/audit/spool.ts'
import { report } from './report.ts'

const [dir = '', session = '', segmentBytes = '', refusals = '1'] = process.argv.slice(2)
const spool = openSpool({
  dir,
  session,
  startedAt: new Date(),
  logger: pino({ level: 'silent' }),
  segmentBytes: Number(segmentBytes),
  maxBytes: 1024 ** 3,
})
let refused = 0
while (refused < Number(refusals)) {
  const seq = spool.lastSeq + 1
  try {
    spool.append(`{"session":"${session}","spool_seq":${seq},"pad":"${'x'.repeat((seq * 37) % 2500)}"}`)
    report(String(seq))
  } catch (error) {
    refused += 1
    report(`refused ${(error as { code?: string }).code}`)
  }
  if (seq % 20 === 0) await turn()
}
// Ends without closing anything, as a process that is killed does.
process.kill(process.pid, 'SIGKILL')
