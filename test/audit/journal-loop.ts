/** A process that journals events to a ledger until it is killed: reports each event id whose append returned. */
import { readFileSync } from 'node:fs'
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { Registry } from 'prom-client'
import { canonicalize } from '#core/canonical/jcs.ts'
import { indexKeyring, parseKeyring } from '#core/keyring/keyring.ts'
import { openJournal } from '#proxy/audit/journal.ts'
import { createLedgerClient } from '#proxy/audit/ledger-client.ts'
import { report } from './report.ts'

const [dir = '', url = '', tokenFile = '', keyringFile = ''] = process.argv.slice(2)
const journal = await openJournal({
  spool: { dir, segmentBytes: 65_536, maxBytes: 100_000_000 },
  client: createLedgerClient({ url, token: { file: tokenFile }, timeoutMs: 2000 }),
  keyring: indexKeyring(parseKeyring(readFileSync(keyringFile, 'utf8'))),
  logger: pino({ level: 'silent' }),
  metrics: new Registry(),
  clock: () => new Date(),
  newId: randomUUID,
  software: 'journal-loop',
  sender: { lingerMs: 1, backoff: { baseMs: 5, maxMs: 50 } },
})
for (;;) {
  for (let i = 0; i < 5; i += 1) {
    const id = randomUUID()
    const event = {
      event_id: id,
      event_type: 'egress.decided',
      timestamp_utc: new Date().toISOString(),
      trace_id: '4bf92f3577b34da6a3ce929d0e0e4736',
      request_id: id,
      actor: 'anonymous',
      tenant: 'acme',
      stage: 'publish',
      action: 'GET',
      resource: '/',
      before: null,
      after: null,
      outcome: 'allowed',
      latency_ms: 0,
      stamp_hash: null,
    }
    journal.append(canonicalize(event), null)
    report(id)
  }
  await sleep(2)
}
