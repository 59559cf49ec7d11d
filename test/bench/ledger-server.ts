// A ledger that keeps nothing: it answers the wire contract with signed acknowledgements that the proxy verifies, and counts.
// The real one with PostgreSQL would take the client's core away from the client. One process of its own.
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { signAck } from '#core/audit/acknowledgement.ts'
import type { Ack, Checkpoint } from '#core/audit/wire.ts'
import { digestText } from '#core/crypto/digest.ts'
import { indexKeyring, parseKeyring } from '#core/keyring/keyring.ts'

const [tenant = '', keyring = ''] = process.argv.slice(2)
const EVENT_ID = Buffer.from('"event_id":"')
const SPOOL_SEQ = Buffer.from(',"spool_seq":')
const STAMP = Buffer.from(',"stamp":{')
const LINE_FEED = 0x0a
const key = indexKeyring(parseKeyring(keyring)).activeAckKey(new Date())
if (key === undefined) throw new Error('no acknowledgement key')

/** By session: items in order without a hole, and those of them that hold a stamp. */
const counts = new Map<string, { items: number; stamps: number }>()
let head = 0

function checkpoint(): Checkpoint {
  const hash = head === 0 ? '0'.repeat(64) : digestText(String(head)).slice('sha256:'.length)
  return { hash, seq: head, tenant, timestamp_utc: new Date().toISOString() }
}

function take(line: Buffer): Ack {
  const idAt = line.indexOf(EVENT_ID) + EVENT_ID.length
  const seqAt = line.indexOf(SPOOL_SEQ, idAt)
  const session = line.toString('latin1', seqAt - 37, seqAt - 1)
  const spoolSeq = Number.parseInt(line.toString('latin1', seqAt + SPOOL_SEQ.length, seqAt + SPOOL_SEQ.length + 16), 10)
  const count = counts.get(session) ?? { items: 0, stamps: 0 }
  counts.set(session, count)
  if (spoolSeq === count.items + 1) {
    count.items += 1
    if (line.indexOf(STAMP, seqAt) !== -1) count.stamps += 1
  } else if (spoolSeq > count.items) {
    throw new Error(`session ${session}: ${spoolSeq} came after ${count.items}`)
  }
  const received_digest = digestText(line)
  head += 1
  // In the order in which the ledger has them.
  return {
    commitment: received_digest.slice('sha256:'.length),
    event_id: line.toString('latin1', idAt, idAt + 36),
    received_digest,
    seq: head,
    spool_seq: spoolSeq,
  }
}

function ingest(body: Buffer): unknown {
  const acks: Ack[] = []
  for (let start = 0; start < body.length;) {
    const end = body.indexOf(LINE_FEED, start)
    acks.push(take(body.subarray(start, end)))
    start = end + 1
  }
  return signAck({ acks, checkpoint: checkpoint(), key_id: key!.keyId, refused: [], tenant, version: 1 }, key!)
}

function answer(request: IncomingMessage, body: Buffer): unknown {
  const path = request.url ?? ''
  if (path === '/api/audit/ingest') return ingest(body)
  const closing = /^\/api\/audit\/sessions\/([^/]+)\/close$/.exec(path)?.[1]
  const session = closing ?? (JSON.parse(body.toString()) as { session: string }).session
  return { version: 1, session, tenant, producer_id: 'demo/api', recorded_spool_seq: 0, checkpoint: checkpoint() }
}

const server = createServer((request, response) => {
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => {
    const text = JSON.stringify(answer(request, Buffer.concat(chunks)))
    response.writeHead(200, { 'content-type': 'application/json' }).end(text)
  })
})
server.listen(0, '127.0.0.1', () => {
  process.send?.({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
})
process.on('message', () => {
  const all = [...counts.values()]
  process.send?.({
    items: all.reduce((sum, { items }) => sum + items, 0),
    stamps: all.reduce((sum, { stamps }) => sum + stamps, 0),
  })
})
process.once('disconnect', () => process.exit())
