import { readFile } from 'node:fs/promises'
import { Agent, request } from 'undici'
import type { AuditEvent } from '#core/audit/event.ts'
import { SignetError } from '#core/error/signet-error.ts'

export type LedgerAuditOptions = {
  /** `https://signet-ledger.NS.svc:8090` */
  readonly url: string
  /** The operator's own projected token of audience `signet-ledger`; read for each call. */
  readonly tokenFile: string
  /** PEM of the platform's authority, as it is now; undefined: the system's. */
  readonly ca: () => string | undefined
  readonly timeoutMs?: number
}

/** Records events at the ledger, one a call. */
export type LedgerAudit = {
  /**
   * Resolves when the event is durable. The same event may be sent again: the ledger knows it by id and bytes.
   * @throws SignetError LEDGER_UNREACHABLE (worth a retry), LEDGER_REFUSED (`details.status`, `details.code`)
   */
  record(event: AuditEvent): Promise<void>
  close(): Promise<void>
}

const MAX_ANSWER_BYTES = 64 * 1024

export function createLedgerAudit(options: LedgerAuditOptions): LedgerAudit {
  const { url, timeoutMs = 10_000 } = options
  const target = `${url.replace(/\/$/, '')}/api/audit/logs`
  let connected: { ca: string | undefined; agent: Agent } | undefined

  function agent(): Agent {
    const ca = options.ca()
    if (connected !== undefined && connected.ca === ca) return connected.agent
    void connected?.agent.close()
    connected = {
      ca,
      agent: new Agent({ connections: 4, connect: { ...(ca === undefined ? {} : { ca }), timeout: timeoutMs } }),
    }
    return connected.agent
  }

  return {
    async record(event) {
      let status: number
      let text: string
      try {
        const token = (await readFile(options.tokenFile, 'utf8')).trim()
        const response = await request(target, {
          method: 'POST',
          dispatcher: agent(),
          headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', accept: 'application/json' },
          body: JSON.stringify(event),
          signal: AbortSignal.timeout(timeoutMs),
        })
        status = response.statusCode
        text = await readBounded(response.body)
      } catch (cause) {
        const why = cause instanceof Error ? cause.message : String(cause)
        throw new SignetError('LEDGER_UNREACHABLE', `The ledger at ${url} cannot be reached: ${why}`, { cause })
      }
      if (status < 300) return
      const code = problemCode(text)
      // Recorded before, by another version of us that wrote it in other bytes.
      if (code === 'EVENT_ID_CONFLICT') return
      const isTransient = status >= 500 || status === 408 || status === 429
      throw new SignetError(
        isTransient ? 'LEDGER_UNREACHABLE' : 'LEDGER_REFUSED',
        `The ledger answers ${status}${code === null ? '' : ` ${code}`} to event ${event.event_id}`,
        { details: { status, code } },
      )
    },
    async close() {
      await connected?.agent.close()
    },
  }
}

async function readBounded(body: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of body) {
    length += chunk.length
    if (length > MAX_ANSWER_BYTES) break
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function problemCode(text: string): string | null {
  try {
    const { code } = JSON.parse(text) as { code?: unknown }
    return typeof code === 'string' && /^[A-Z_]{1,64}$/.test(code) ? code : null
  } catch {
    return null
  }
}
