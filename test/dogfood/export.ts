import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { gunzipSync } from 'node:zlib'
import type { GovernanceStack } from '#test/support/governance.ts'

const CLI = path.resolve(import.meta.dirname, '../../cli/main.ts')

function ledgerOf(stack: GovernanceStack): string {
  return stack.ledger.ledgers[0]?.url ?? ''
}

/** Ids of all events of a tenant that governance wrote. */
export async function recordedEvents(stack: GovernanceStack, tenant: string): Promise<string[]> {
  const ids: string[] = []
  for (let cursor: string | null = ''; cursor !== null;) {
    const url = `${ledgerOf(stack)}/api/audit/logs?order=asc&limit=1000&producer_id=signet/governance${cursor === '' ? '' : `&cursor=${cursor}`}`
    const headers = { authorization: `Bearer ${stack.ledger.token('governance')}`, 'signet-tenant': tenant }
    const page = (await (await fetch(url, { headers })).json()) as {
      items: { event: { event_id: string } }[]
      next_cursor: string | null
    }
    ids.push(...page.items.map(({ event }) => event.event_id))
    cursor = page.next_cursor
  }
  return ids
}

/** Asks the ledger for the export of the last thirty days, checks it with `signet verify`, without a network, and says what is in it. */
export async function exportRecords(
  stack: GovernanceStack,
  tenant: string,
): Promise<{ eventIds: Set<string>; verified: boolean }> {
  const url = `${ledgerOf(stack)}/api/audit/exports`
  const headers = { authorization: `Bearer ${stack.ledger.token('exporter')}`, 'content-type': 'application/json' }
  const asked = await fetch(url, { method: 'POST', headers, body: JSON.stringify({ format: 'ndjson' }) })
  const { id } = (await asked.json()) as { id: string }
  for (let state = ''; state !== 'done';) {
    await sleep(300)
    const job = (await (await fetch(`${url}/${id}`, { headers })).json()) as { state: string; error?: string }
    state = job.state
    if (state === 'failed') throw new Error(`the export failed: ${job.error}`)
  }
  const bytes = Buffer.from(await (await fetch(`${url}/${id}/package`, { headers })).arrayBuffer())
  const file = path.join(stack.ledger.dir, 'export.tar.gz')
  await writeFile(file, bytes)
  const key = (await (await fetch(`${ledgerOf(stack)}/log/keys`)).text()).trim()
  const verified = await promisify(execFile)(process.execPath, [
    CLI,
    'verify',
    file,
    '--log-key',
    key,
    '--tenant',
    tenant,
  ]).then(
    () => true,
    () => false,
  )
  const text = gunzipSync(bytes).toString('latin1')
  return { eventIds: new Set([...text.matchAll(/"event_id":"([0-9a-f-]{36})"/g)].map(([, one = '']) => one)), verified }
}
