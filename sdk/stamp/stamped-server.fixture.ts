import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { scanStructure } from '#core/json/scan.ts'
import { formatStampHeader } from '#core/stamp/header.ts'
import { embedStamp } from '#core/stamp/splice.ts'
import { CLAIMS, KEYRING, stampOf } from '#core/stamp/stamp.fixture.ts'
import { targetDigest } from '#core/stamp/subject.ts'
import type { StampClaims } from '#core/stamp/schema.ts'
import { keyringAuthority } from './authority.ts'

/** Who verifies what this server says. */
export const TRUST = {
  authority: keyringAuthority(JSON.stringify(KEYRING)),
  tenant: 'acme',
  channel: 'external',
} as const

export type StampedServer = {
  readonly url: string
  readonly seen: IncomingMessage[]
  answer: (request: IncomingMessage, response: ServerResponse) => void
  close(): Promise<void>
}

export async function startStampedServer(): Promise<StampedServer> {
  const seen: IncomingMessage[] = []
  const server = createServer((request, response) => {
    seen.push(request)
    request.resume()
    made.answer(request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const made: StampedServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    answer: (_request, response) => response.end(),
    close() {
      server.closeAllConnections()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
  return made
}

export function claimsOf(request: IncomingMessage, subject: Partial<StampClaims['subject']> = {}): StampClaims {
  return {
    ...CLAIMS,
    subject: {
      ...CLAIMS.subject,
      method: request.method ?? '',
      target_digest: targetDigest(request.url ?? ''),
      ...subject,
    },
  }
}

/** The payload, an object, with the stamp of this request in it. */
export function stampedObject(
  request: IncomingMessage,
  payload = '{"a":1}',
  subject: Partial<StampClaims['subject']> = {},
): Buffer {
  const bytes = Buffer.from(payload)
  const { closeBrace, members } = scanStructure(bytes)
  return embedStamp(bytes, closeBrace, members === 0, stampOf(bytes, { claims: claimsOf(request, subject) }).jcs)
}

/** The header of a payload that has no stamp inside. */
export function stampHeaderOf(
  request: IncomingMessage,
  payload: string | Uint8Array,
  subject: Partial<StampClaims['subject']> = {},
): string {
  const { hash, jcs } = stampOf(payload, { claims: claimsOf(request, subject) })
  return formatStampHeader(hash, jcs)
}
