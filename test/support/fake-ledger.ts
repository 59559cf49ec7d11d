import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Compile } from 'typebox/compile'
import { signAck } from '#core/audit/acknowledgement.ts'
import { IngestItem, SessionClose, SessionOpen, type Ack, type IngestAck, type Refusal } from '#core/audit/wire.ts'
import { ERROR_CODES, type ErrorCode } from '#core/error/codes.ts'
import { indexKeyring, parseKeyring, type KeyIndex } from '#core/keyring/keyring.ts'
import type { AckKey, Keyring } from '#core/keyring/schema.ts'
import { judgeStamp, STAMP_VERDICT_PATH } from '#core/stamp/verdict.ts'

const itemValidator = Compile(IngestItem)
const openValidator = Compile(SessionOpen)
const closeValidator = Compile(SessionClose)
const MAX_BODY_BYTES = 16 * 1024 * 1024
const NO_LINK = '0'.repeat(64)

/** What goes wrong with one call. `fail-after`: recorded, but the answer never arrives. */
export type Trouble =
  /** None: the call goes well. */
  | { kind: 'fine' }
  | { kind: 'status'; status: number; code?: ErrorCode }
  | { kind: 'hang' }
  | { kind: 'reset' }
  | { kind: 'fail-after' }
  | { kind: 'garbage'; body: string }
  | { kind: 'huge'; bytes: number }
  /** Changes the answer before it is signed, or after. */
  | { kind: 'lie'; change: (answer: Omit<IngestAck, 'signature'>) => Omit<IngestAck, 'signature'> }
  | { kind: 'tamper'; change: (answer: IngestAck) => IngestAck }

type FakeSession = { opened: number; closed: { last_spool_seq: number; clean: boolean }[] }

export type FakeLedger = {
  readonly url: string
  readonly token: string
  readonly keyring: KeyIndex
  /** The same keyring as a file holds it: the public key of the acknowledgements. */
  readonly keyringText: string
  /** Events in the order of the chain. */
  readonly recorded: { eventId: string; session: string; spoolSeq: number; line: string }[]
  readonly sessions: Map<string, FakeSession>
  /** Lines of each ingest call that was received whole. */
  readonly batches: number[]
  /** Troubles for the next calls to a path (`ingest`, `sessions`, `close`), in order. */
  readonly troubles: Record<'ingest' | 'sessions' | 'close' | 'stamps', Trouble[]>
  /** Says which events are refused, and why. */
  refuse: (item: IngestItem) => { code: ErrorCode; detail: string } | null
  /** Stamps by hash and by request id, as bytes. */
  readonly stamps: Map<string, Buffer>
  /** Keys that it verifies stamps of producers with. */
  stampKeys: Pick<KeyIndex, 'stampKey'>
  /** Forgets the newest events of the chain, as a database set back does. */
  setBack(events: number): void
  stop(): Promise<void>
  /** Listens again on the same port. */
  restart(): Promise<void>
}

/** An in-memory ledger that speaks `core/audit/wire.ts` over real HTTP, signs what it acknowledges, and goes wrong when told. */
export async function startFakeLedger(options: { tenant?: string; maxBatchItems?: number } = {}): Promise<FakeLedger> {
  const tenant = options.tenant ?? 'acme'
  const token = randomBytes(24).toString('base64url')
  const { keyringText, ackKey } = makeAckKey()
  const chain: { eventId: string; session: string; spoolSeq: number; line: string; hash: string }[] = []
  const ledger: FakeLedger = {
    url: '',
    token,
    keyring: indexKeyring(parseKeyring(keyringText)),
    keyringText,
    recorded: chain,
    sessions: new Map(),
    batches: [],
    troubles: { ingest: [], sessions: [], close: [], stamps: [] },
    refuse: () => null,
    stamps: new Map(),
    stampKeys: { stampKey: () => undefined },
    setBack: (events) => void chain.splice(Math.max(0, chain.length - events)),
    stop: () => stop(server),
    async restart() {
      server = await listen(Number(new URL(ledger.url).port))
    },
  }

  const head = () => ({
    tenant,
    seq: chain.length,
    hash: chain.at(-1)?.hash ?? NO_LINK,
    timestamp_utc: new Date().toISOString(),
  })

  function ingest(body: Buffer): Omit<IngestAck, 'signature'> {
    const acks: Ack[] = []
    const refused: Refusal[] = []
    const lines = body.toString('utf8').split('\n').slice(0, -1)
    ledger.batches.push(lines.length)
    for (const [index, line] of lines.entries()) {
      const item: unknown = JSON.parse(line)
      if (!itemValidator.Check(item)) {
        refused.push({ line: index + 1, code: 'AUDIT_EVENT_INVALID', detail: 'not of the schema' })
        continue
      }
      const no = ledger.refuse(item)
      const eventId = item.event.event_id
      const known = chain.findIndex((entry) => entry.eventId === eventId)
      if (no !== null || (known !== -1 && chain[known]?.line !== line)) {
        refused.push({
          line: index + 1,
          event_id: eventId,
          ...(no ?? { code: 'EVENT_ID_CONFLICT', detail: 'other bytes' }),
        })
        continue
      }
      if (known === -1) {
        const hash = sha256(`${chain.at(-1)?.hash ?? NO_LINK}${line}`)
        chain.push({ eventId, session: item.session, spoolSeq: item.spool_seq, line, hash })
      }
      acks.push({
        event_id: eventId,
        spool_seq: item.spool_seq,
        received_digest: `sha256:${sha256(line)}`,
        commitment: sha256(`commitment ${line}`),
        seq: known === -1 ? chain.length : known + 1,
      })
    }
    return { version: 1, tenant, acks, refused, checkpoint: head(), key_id: ackKey.keyId }
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? '').split('?', 1)[0] ?? ''
    const close = /^\/api\/audit\/sessions\/([0-9a-f-]+)\/close$/.exec(path)
    const stamp = /^\/api\/audit\/(?:stamps\/([^/]+)|requests\/([^/]+)\/stamp)$/.exec(path)
    const isVerdict = path === STAMP_VERDICT_PATH
    const kind =
      stamp !== null || isVerdict
        ? 'stamps'
        : close !== null
          ? 'close'
          : path.endsWith('/ingest')
            ? 'ingest'
            : 'sessions'
    const body = await readAll(request)
    const trouble = ledger.troubles[kind].shift()
    if (trouble?.kind === 'reset') return void request.socket.resetAndDestroy()
    if (trouble?.kind === 'hang') return
    if (trouble?.kind === 'status') return problem(response, trouble.status, trouble.code)
    if (trouble?.kind === 'garbage') return void response.end(trouble.body)
    if (trouble?.kind === 'huge') return void response.end(Buffer.alloc(trouble.bytes, 0x20))
    if (request.headers.authorization !== `Bearer ${token}`) return problem(response, 401, 'UNAUTHENTICATED')

    if (isVerdict) return json(response, judgeStamp(body, ledger.stampKeys, tenant))
    if (stamp !== null) {
      const found = ledger.stamps.get(decodeURIComponent(stamp[1] ?? stamp[2] ?? ''))
      return found === undefined ? problem(response, 404, 'NOT_FOUND') : void response.end(found)
    }
    if (kind === 'ingest') {
      if (request.headers['content-type'] !== 'application/x-ndjson') return problem(response, 400, 'REQUEST_INVALID')
      const lines = body.toString('latin1').split('\n').length - 1
      if (lines > (options.maxBatchItems ?? 1000)) return problem(response, 413, 'PAYLOAD_TOO_LARGE')
      let unsigned = ingest(body)
      if (trouble?.kind === 'fail-after') return void request.socket.resetAndDestroy()
      if (trouble?.kind === 'lie') unsigned = trouble.change(unsigned)
      const signed = signAck(unsigned, ackKey)
      return json(response, trouble?.kind === 'tamper' ? trouble.change(signed) : signed)
    }
    const value: unknown = JSON.parse(body.toString('utf8'))
    if (close !== null) {
      const session = ledger.sessions.get(close[1] ?? '')
      if (session === undefined) return problem(response, 404, 'SESSION_UNKNOWN')
      if (!closeValidator.Check(value)) return problem(response, 400, 'REQUEST_INVALID')
      session.closed.push({ last_spool_seq: value.last_spool_seq, clean: value.clean })
      return json(response, {
        version: 1,
        session: close[1],
        tenant,
        recorded_spool_seq: value.last_spool_seq,
        checkpoint: head(),
      })
    }
    if (!openValidator.Check(value)) return problem(response, 400, 'REQUEST_INVALID')
    const session = ledger.sessions.get(value.session) ?? { opened: 0, closed: [] }
    ledger.sessions.set(value.session, { ...session, opened: session.opened + 1 })
    json(response, { version: 1, session: value.session, tenant, producer_id: 'test/proxy', checkpoint: head() })
  }

  function listen(port: number): Promise<Server> {
    const made = createServer((request, response) => {
      handle(request, response).catch(() => response.destroy())
    })
    return new Promise((resolve, reject) => {
      made.once('error', reject)
      made.listen(port, '127.0.0.1', () => resolve(made))
    })
  }

  let server = await listen(0)
  return Object.assign(ledger, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
}

function stop(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}

function makeAckKey(): { keyringText: string; ackKey: NonNullable<ReturnType<KeyIndex['ackKey']>> } {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  const key: AckKey = {
    use: 'ack',
    alg: 'Ed25519',
    key_id: 'fake-ledger-1',
    not_before: '2020-01-01T00:00:00.000Z',
    not_after: '2100-01-01T00:00:00.000Z',
    public_key: publicKey.export({ format: 'der', type: 'spki' }).toString('base64url'),
  }
  const secret = privateKey.export({ format: 'der', type: 'pkcs8' }).toString('base64url')
  const ring = (keys: AckKey[]): Keyring => ({ version: 1, keys })
  const ackKey = indexKeyring(ring([{ ...key, private_key: secret }])).ackKey(key.key_id)
  if (ackKey === undefined) throw new Error('the key just made is not in its keyring')
  return { keyringText: JSON.stringify(ring([key])), ackKey }
}

async function readAll(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length
    if (length > MAX_BODY_BYTES) throw new Error('body too large')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function json(response: ServerResponse, value: unknown): void {
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify(value))
}

function problem(response: ServerResponse, status: number, code?: ErrorCode): void {
  response.writeHead(status, { 'content-type': 'application/problem+json' })
  response.end(
    JSON.stringify({
      status,
      ...(code === undefined ? {} : { code, title: ERROR_CODES[code].title, detail: 'as told' }),
    }),
  )
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
