import { createHash } from 'node:crypto'
import { checkAuditEvent } from '#core/audit/validate.ts'
import type { AuditEvent } from '#core/audit/event.ts'
import { parseStampHeader } from '#core/stamp/header.ts'
import type { StampSubject } from '#core/stamp/schema.ts'
import { extractStamp } from '#core/stamp/splice.ts'
import { verifyStamp, type VerifiedStamp } from '#core/stamp/verify.ts'
import { ruleSource } from '#engine/compile/fixtures/sample.ts'
import { startFakeLedger, type FakeLedger } from './fake-ledger.ts'
import type { HttpAnswer } from './http-exchange.ts'
import { startProxyStack, type LedgerAccess, type ProxyStack, type ProxyStackOptions } from './proxy-stack.ts'
import { startUpstream, type Upstream } from './upstream.ts'

/** A rule that lets everything out, as public and approved, and reads nothing. */
export const PASS_RULE = ruleSource(
  'pass',
  'decision := {"evaluated": true, "violations": [], "classification": "public", "approval_status": "approved"}',
  { custom: 'undecidable: {external: closed, internal: open}' },
)

/** A rule that refuses every answer for which the Rego expressions in `when` hold. */
export function refusingRule(
  id: string,
  when: string,
  custom = 'mode: enforce, undecidable: {external: closed, internal: open}',
) {
  const body = `decision := {"evaluated": true, "violations": [v | some v in violations]}

violations contains {
	"severity": "high",
	"message": "${id} says no",
	"remediation": {"hint": "ask for something else", "url": "https://example.com/fix"},
	"frameworks": ["SOX"],
} if {
	${when}
}`
  return ruleSource(id, body, { custom })
}

export type ProxyFixture = {
  readonly upstream: Upstream
  readonly ledger: FakeLedger
  stack: ProxyStack
  /** Audit events that the ledger has of this request, in order, once there are `count`; each is checked against the schema. */
  events(requestId: string, count?: number): Promise<AuditEvent[]>
  stop(): Promise<void>
}

export function ledgerAccess(ledger: FakeLedger): LedgerAccess {
  const key = ledger.keyring.ackKey('fake-ledger-1')
  if (key === undefined) throw new Error('the fake ledger has no ack key')
  return {
    url: ledger.url,
    token: ledger.token,
    ackKey: {
      use: 'ack',
      alg: 'Ed25519',
      key_id: 'fake-ledger-1',
      not_before: '2020-01-01T00:00:00.000Z',
      not_after: '2100-01-01T00:00:00.000Z',
      public_key: key.publicKey.export({ type: 'spki', format: 'der' }).toString('base64url'),
    },
  }
}

/** An upstream, a ledger and the proxy between them, ready to answer. */
export async function startProxyFixture(options: Partial<ProxyStackOptions> = {}): Promise<ProxyFixture> {
  const upstream = await startUpstream()
  const ledger = await startFakeLedger()
  const stack = await startProxyStack({
    upstream: upstream.url,
    ledger: ledgerAccess(ledger),
    rules: [PASS_RULE],
    ...options,
  })
  await stack.ready()
  const fixture: ProxyFixture = {
    upstream,
    ledger,
    stack,
    events: (requestId, count = 1) =>
      until(`${count} events of ${requestId}`, () => {
        const found = eventsOf(ledger, requestId)
        return found.length >= count ? found : null
      }),
    async stop() {
      await fixture.stack.stop()
      await ledger.stop()
      await upstream.close()
    },
  }
  return fixture
}

export function eventsOf(ledger: FakeLedger, requestId: string): AuditEvent[] {
  return ledger.recorded
    .filter(({ line }) => line.includes(requestId))
    .map(({ line }) => checkAuditEvent((JSON.parse(line) as { event: unknown }).event))
    .filter((event) => event.request_id === requestId)
}

/** Polls until `look` gives something other than null or false. */
export async function until<T>(
  what: string,
  look: () => T | null | false | Promise<T | null | false>,
  timeoutMs = 10_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    const found = await look()
    if (found !== null && found !== false) return found
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 15))
  }
}

export function digestOf(bytes: string | Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

/** The subject that an answer of the fixture's proxy must have. */
export function subjectOf(
  stack: ProxyStack,
  of: { target: string; method?: string; status?: number; mediaType: string; channel?: StampSubject['channel'] },
): StampSubject {
  return {
    tenant: stack.tenant,
    method: of.method ?? 'GET',
    target_digest: digestOf(Buffer.from(of.target, 'latin1')),
    status: of.status ?? 200,
    media_type: of.mediaType,
    channel: of.channel ?? 'external',
  }
}

/**
 * Verifies an answer as any client with the keyring would, against all of its subject: the stamp in the body, or the one in the header.
 * Gives the payload, too: the bytes without the stamp.
 */
export function verifyAnswer(
  stack: ProxyStack,
  answer: HttpAnswer,
  subject: StampSubject,
): VerifiedStamp & { payload: Buffer; embedded: boolean } {
  const header = parseStampHeader(String(answer.headers['compliance-stamp']))
  const inBody = header.stampBytes === undefined ? extractStamp(answer.body) : null
  const stampBytes = header.stampBytes ?? inBody?.stampBytes
  if (stampBytes === undefined) throw new Error('the answer has no stamp, neither in the body nor in the header')
  const payload = inBody?.payload ?? answer.body
  const verified = verifyStamp({ stampBytes, payload, keyring: stack.keyring, expected: subject })
  if (verified.hash !== header.hash) throw new Error('header and stamp do not belong together')
  if (!verified.subjectChecked) throw new Error(`unchecked: ${verified.unchecked.join(', ')}`)
  return { ...verified, payload, embedded: inBody !== null }
}
