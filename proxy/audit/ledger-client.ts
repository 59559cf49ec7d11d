import { readFile } from 'node:fs/promises'
import Type from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import { Pool, type Dispatcher } from 'undici'
import {
  SessionClosed,
  SessionOpened as SessionOpenedSchema,
  type Checkpoint as CheckpointSchema,
  type SessionClose,
  type SessionOpen,
} from '#core/audit/wire.ts'
import { digestText } from '#core/crypto/digest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { Digest, Stamp } from '#core/stamp/schema.ts'
import { STAMP_VERDICT_PATH, StampVerdict } from '#core/stamp/verdict.ts'

export type LedgerClientOptions = {
  /** `https://ledger.example:8090`, a path prefix allowed. */
  url: string
  /** A bearer token, or the file that holds it, read anew every second and when it was refused, as the platform rotates it. Never logged. */
  token: string | { readonly file: string }
  /** Whose stamps are asked for by request; anybody's of the tenant where unset. */
  producerId?: string
  /** Longest time for a whole call. Default 10 s. */
  timeoutMs?: number
  /** Longest answer read. Default 4 MiB. */
  maxResponseBytes?: number
  /** TLS options of undici's connector: `ca`, `cert`, `key`, `servername`. */
  connect?: Pool.Options['connect']
  /** Sent with each call, for example which of its identities a workload wants. */
  headers?: Readonly<Record<string, string>>
  /** Called with the headers of each answer. */
  onHeaders?: (headers: Readonly<Record<string, string | string[] | undefined>>) => void
}

/**
 * The proxy's side of `core/audit/wire.ts`. Every call throws SignetError: LEDGER_UNREACHABLE (no answer in time, 408, 429, 5xx),
 * LEDGER_REFUSED (any other 4xx; `details`: `status`, and the `code` of its problem body where it has one), LEDGER_RESPONSE_INVALID.
 */
export type LedgerClient = {
  openSession(open: SessionOpen, signal?: AbortSignal): Promise<SessionOpened>
  closeSession(session: string, close: SessionClose, signal?: AbortSignal): Promise<void>
  /** `body`: items of one batch, a line feed behind each. The answer is what came, not looked at (`ack-reader.ts`). */
  ingest(body: Buffer, signal?: AbortSignal): Promise<Buffer>
  /** The exact bytes of a stamp, checked against its hash; null where the ledger does not have it. */
  fetchStamp(hash: string, signal?: AbortSignal): Promise<Buffer | null>
  /** The exact bytes of the stamp issued for a request; null where the ledger does not have it. */
  fetchRequestStamp(requestId: string, signal?: AbortSignal): Promise<Buffer | null>
  /** Whether the ledger vouches for the MAC of a stamp, given in its exact bytes. */
  vouchesFor(stampBytes: Buffer, signal?: AbortSignal): Promise<boolean>
  close(): Promise<void>
}

export type Checkpoint = Type.Static<typeof CheckpointSchema>
type SessionOpened = Type.Static<typeof SessionOpenedSchema>

const openedValidator = Compile(SessionOpenedSchema)
const closedValidator = Compile(SessionClosed)
const stampValidator = Compile(Stamp)
const verdictValidator = Compile(StampVerdict)
const digestValidator = Compile(Digest)
/** A token of that age is read again. */
const TOKEN_MS = 1_000
const NDJSON = 'application/x-ndjson'
const JSON_TYPE = 'application/json'

type Call = {
  method: 'GET' | 'POST'
  path: string
  accept: string
  contentType?: string
  body?: Buffer | string
  signal: AbortSignal | undefined
}
type Answer = { status: number; body: Buffer }

export function createLedgerClient(options: LedgerClientOptions): LedgerClient {
  const { token, timeoutMs = 10_000, maxResponseBytes = 4 * 1024 * 1024 } = options
  const base = parseBase(options.url)
  const prefix = base.pathname.replace(/\/$/, '')
  const pool = new Pool(base.origin, {
    connections: 4,
    connectTimeout: timeoutMs,
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    ...(options.connect === undefined ? {} : { connect: options.connect }),
  })

  const currentToken = tokenReader(token)

  async function call(request: Call): Promise<Answer> {
    const { method, path, accept, contentType, body, signal } = request
    const deadline = AbortSignal.timeout(timeoutMs)
    const headers: Record<string, string> = {
      ...options.headers,
      authorization: `Bearer ${await currentToken()}`,
      accept,
      ...(contentType === undefined ? {} : { 'content-type': contentType }),
    }
    try {
      const response = await pool.request({
        method,
        path: prefix + path,
        headers,
        body: body ?? null,
        signal: signal === undefined ? deadline : AbortSignal.any([signal, deadline]),
      })
      options.onHeaders?.(response.headers)
      const { statusCode: status } = response
      if (status === 401 || status === 403) currentToken.forget()
      return { status, body: await readBody(response.body, maxResponseBytes) }
    } catch (cause) {
      if (cause instanceof SignetError) throw cause
      const why = deadline.aborted ? `no answer within ${timeoutMs} ms` : (cause as Error).message
      throw new SignetError('LEDGER_UNREACHABLE', `The ledger at ${base.origin} cannot be reached: ${why}`, { cause })
    }
  }

  async function post<S extends Type.TSchema>(
    path: string,
    body: unknown,
    validator: Validator<{}, S>,
    signal?: AbortSignal,
  ): Promise<Type.Static<S>> {
    const text = JSON.stringify(body)
    const answer = await call({ method: 'POST', path, accept: JSON_TYPE, contentType: JSON_TYPE, body: text, signal })
    throwUnlessOk(answer, path)
    return parseAnswer(answer.body, validator, path)
  }

  async function getStamp(path: string, signal?: AbortSignal): Promise<Buffer | null> {
    const answer = await call({ method: 'GET', path, accept: JSON_TYPE, signal })
    if (answer.status === 404) return null
    throwUnlessOk(answer, path)
    parseAnswer(answer.body, stampValidator, path)
    return answer.body
  }

  return {
    async openSession(open, signal) {
      const opened = await post('/api/audit/sessions', open, openedValidator, signal)
      if (opened.session !== open.session) throw invalidAnswer('/api/audit/sessions', 'it names another session')
      return opened
    },

    async closeSession(session, close, signal) {
      await post(`/api/audit/sessions/${encodeURIComponent(session)}/close`, close, closedValidator, signal)
    },

    async ingest(body, signal) {
      const path = '/api/audit/ingest'
      const answer = await call({ method: 'POST', path, accept: JSON_TYPE, contentType: NDJSON, body, signal })
      throwUnlessOk(answer, path)
      return answer.body
    },

    async fetchStamp(hash, signal) {
      if (!digestValidator.Check(hash)) return null
      const path = `/api/audit/stamps/${hash}`
      const bytes = await getStamp(path, signal)
      if (bytes !== null && digestText(bytes) !== hash)
        throw invalidAnswer(path, 'the bytes do not have the hash asked for')
      return bytes
    },

    async fetchRequestStamp(requestId, signal) {
      // Others of the tenant may have sent the ledger stamps for the same request id.
      const producer = options.producerId === undefined ? '' : `?producer_id=${encodeURIComponent(options.producerId)}`
      const path = `/api/audit/requests/${encodeURIComponent(requestId)}/stamp${producer}`
      const bytes = await getStamp(path, signal)
      if (bytes === null) return null
      const stamp = JSON.parse(bytes.toString('utf8')) as Stamp
      if (stamp.data_lineage.request_id !== requestId) throw invalidAnswer(path, 'the stamp is of another request')
      return bytes
    },

    async vouchesFor(stampBytes, signal) {
      const path = STAMP_VERDICT_PATH
      const content = { accept: JSON_TYPE, contentType: JSON_TYPE, body: stampBytes }
      const answer = await call({ method: 'POST', path, ...content, signal })
      throwUnlessOk(answer, path)
      const verdict = parseAnswer(answer.body, verdictValidator, path)
      if (verdict.stamp_hash !== digestText(stampBytes)) throw invalidAnswer(path, 'it is about another stamp')
      return verdict.verified
    },

    close: () => pool.close(),
  }
}

function parseBase(url: string): URL {
  const base = URL.canParse(url) ? new URL(url) : null
  const usable =
    base !== null &&
    (base.protocol === 'http:' || base.protocol === 'https:') &&
    base.username === '' &&
    base.search === ''
  if (usable) return base
  throw new SignetError(
    'CONFIG_INVALID',
    'The address of the ledger must be an http or https URL without user, password or query.',
  )
}

/** Gives the token; `forget` has it read again. */
function tokenReader(token: LedgerClientOptions['token']): (() => Promise<string>) & { forget(): void } {
  let kept = ''
  let readAtMs = -Infinity
  const read = async (): Promise<string> => {
    if (typeof token === 'string') return token
    if (performance.now() - readAtMs >= TOKEN_MS) {
      kept = await readToken(token)
      readAtMs = performance.now()
    }
    return kept
  }
  return Object.assign(read, { forget: () => void (readAtMs = -Infinity) })
}

async function readToken(token: { readonly file: string }): Promise<string> {
  try {
    return (await readFile(token.file, 'utf8')).trim()
  } catch (cause) {
    throw new SignetError('LEDGER_UNREACHABLE', `The token for the ledger cannot be read from ${token.file}.`, {
      cause,
    })
  }
}

async function readBody(body: Dispatcher.ResponseData['body'], maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    length += chunk.length
    // Leaving the loop destroys the body and with it the connection.
    if (length > maxBytes)
      throw new SignetError('LEDGER_RESPONSE_INVALID', `An answer of the ledger is longer than ${maxBytes} bytes.`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks, length)
}

function throwUnlessOk({ status, body }: Answer, path: string): void {
  if (status >= 200 && status < 300) return
  const { code, detail } = readProblem(body)
  const isTransient = status >= 500 || status === 408 || status === 425 || status === 429 || status < 400
  throw new SignetError(
    isTransient ? 'LEDGER_UNREACHABLE' : 'LEDGER_REFUSED',
    `The ledger answered ${status}${code === undefined ? '' : ` ${code}`} to ${path}${detail === undefined ? '' : `: ${detail}`}`,
    { details: { status, ...(code === undefined ? {} : { code }) } },
  )
}

/** RFC 9457 problem details; anything else has no code and no detail. */
function readProblem(body: Buffer): { code?: string; detail?: string } {
  try {
    const problem = JSON.parse(body.toString('utf8')) as Record<string, unknown> | null
    const text = (value: unknown) => (typeof value === 'string' ? value.slice(0, 300) : undefined)
    const code = text(problem?.['code'])
    const detail = text(problem?.['detail'])
    return { ...(code === undefined ? {} : { code }), ...(detail === undefined ? {} : { detail }) }
  } catch {
    return {}
  }
}

function parseAnswer<S extends Type.TSchema>(body: Buffer, validator: Validator<{}, S>, path: string): Type.Static<S> {
  let value: unknown
  try {
    value = JSON.parse(body.toString('utf8'))
  } catch (cause) {
    throw invalidAnswer(path, 'it is not JSON', cause)
  }
  if (!validator.Check(value)) {
    const fault = validator.Errors(value)[0]
    throw invalidAnswer(path, `${fault?.instancePath || '/'} ${fault?.message ?? 'is not valid'}`)
  }
  return value
}

function invalidAnswer(path: string, why: string, cause?: unknown): SignetError {
  return new SignetError('LEDGER_RESPONSE_INVALID', `The answer of the ledger to ${path} is not valid: ${why}`, {
    cause,
  })
}
