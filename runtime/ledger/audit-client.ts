import { readFile } from 'node:fs/promises'
import { Agent, request } from 'undici'
import type { AuditEvent } from '#core/audit/event.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { TENANT_HEADER } from '#core/identity/exchange.ts'

export type AuditClientOptions = {
  /** `https://signet-ledger.NS.svc:8090` */
  readonly url: string
  /** The process's own token for the ledger; read for each call. */
  readonly tokenFile: string
  /** PEM of the platform's authority, as it is now; undefined: the system's. */
  readonly ca: () => string | undefined
  readonly timeoutMs?: number
}

/** Records events at the ledger, one a call. */
export type AuditClient = {
  /**
   * Resolves when the event is durable. The same event may be sent again: the ledger knows it by id and bytes, for which its text may be
   * given in place of it. `tenant`: whose chain it goes to, where the token may write for several.
   * @throws SignetError LEDGER_UNREACHABLE (worth a retry), LEDGER_REFUSED (`details.status`, `details.code`)
   */
  record(event: AuditEvent | string, tenant?: string): Promise<void>
  /**
   * The JSON that the ledger answers to `GET path` with, 8 MiB at most.
   * @throws SignetError as `record`; LEDGER_REFUSED for anything but JSON
   */
  read(path: string, tenant?: string): Promise<unknown>
  close(): Promise<void>
}

const LOGS = '/api/audit/logs'
/** A hundred events, each as large as may be. */
const MAX_ANSWER_BYTES = 8 << 20

export function createAuditClient(options: AuditClientOptions): AuditClient {
  const { url, timeoutMs = 10_000 } = options
  const base = url.replace(/\/$/, '')
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

  async function call(
    path: string,
    tenant: string | undefined,
    body: string | null,
  ): Promise<{ status: number; text: string }> {
    try {
      const token = (await readFile(options.tokenFile, 'utf8')).trim()
      const response = await request(`${base}${path}`, {
        method: body === null ? 'GET' : 'POST',
        dispatcher: agent(),
        headers: {
          authorization: `Bearer ${token}`,
          accept: 'application/json',
          ...(body === null ? {} : { 'content-type': 'application/json' }),
          ...(tenant === undefined ? {} : { [TENANT_HEADER]: tenant }),
        },
        body,
        signal: AbortSignal.timeout(timeoutMs),
      })
      return { status: response.statusCode, text: await readBounded(response.body) }
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause)
      throw new SignetError('LEDGER_UNREACHABLE', `The ledger at ${url} cannot be reached: ${why}`, { cause })
    }
  }

  function refused(status: number, code: string | null, what: string): SignetError {
    const isTransient = status >= 500 || status === 408 || status === 429
    return new SignetError(
      isTransient ? 'LEDGER_UNREACHABLE' : 'LEDGER_REFUSED',
      `The ledger answers ${status}${code === null ? '' : ` ${code}`} to ${what}`,
      { details: { status, code } },
    )
  }

  return {
    async record(event, tenant) {
      const { status, text } = await call(LOGS, tenant, typeof event === 'string' ? event : JSON.stringify(event))
      if (status < 300) return
      const code = problemCode(text)
      // Recorded before, by another version of us that wrote it in other bytes.
      if (code === 'EVENT_ID_CONFLICT') return
      throw refused(status, code, typeof event === 'string' ? 'an event' : `event ${event.event_id}`)
    },
    async read(path, tenant) {
      const { status, text } = await call(path, tenant, null)
      if (status !== 200) throw refused(status, problemCode(text), `GET ${path.replace(/\?.*/, '')}`)
      try {
        return JSON.parse(text)
      } catch {
        throw new SignetError(
          'LEDGER_REFUSED',
          `The ledger answers GET ${path.replace(/\?.*/, '')} with what is no JSON, or too much`,
        )
      }
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
