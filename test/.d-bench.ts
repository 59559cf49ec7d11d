import { randomUUID } from 'node:crypto'
import { startLedgerStack } from '#test/support/ledger.ts'
import { buildEvent, buildLines, buildStamp, createClient, lineOf, stampHashOf } from '#test/support/producer.ts'
const stack = await startLedgerStack({ledgers:1})
const url = stack.ledgers[0]!.url
for (const [producers, size, stamped] of [[1,1000,false],[2,500,false],[4,250,false],[2,500,true],[1,50,true]] as const) {
  const session = Array.from({length: producers}, () => randomUUID())
  const per = 16
  const batches = session.map(s => Array.from({length: per}, (_,i) => stamped ? Array.from({length:size},(_,k)=>{ const event=buildEvent(); const stamp=buildStamp({tenant:'acme',producerId:'demo/api',event}); return lineOf({session:s, spool_seq:i*size+k+1, event:{...event, stamp_hash: stampHashOf(stamp)}, stamp})}) : buildLines(s, i*size+1, size)))
  const c = createClient(url, stack.token('proxy'))
  const t = performance.now()
  await Promise.all(batches.map(async bs => { for (const b of bs) await c.append(b) }))
  const ms = performance.now()-t
  console.log({producers,size,stamped, perSec: Math.round(producers*per*size/ms*1000)})
}
const t = performance.now()
console.log(await createClient(url, stack.token('auditor')).verify(), performance.now()-t)
await stack.stop()
