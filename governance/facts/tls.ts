import { isIP } from 'node:net'
import { connect } from 'node:tls'
import type { JsonObject } from '#core/json/value.ts'
import { EACH_TIMEOUT_MS } from './deadline.ts'

const DAY_MS = 86_400_000

/**
 * What an endpoint shows: `protocol`, `days_left`, and whether its certificate is `authorized` by the authorities of the system, for this name and now;
 * `problem` is OpenSSL's word for why not. What does not answer, or not in time, is a fact as well. Never rejects.
 */
export function certificateOf(
  { host, port }: { readonly host: string; readonly port: number },
  nowMs: number,
  timeoutMs = EACH_TIMEOUT_MS,
): Promise<JsonObject> {
  return new Promise((resolve) => {
    const end = (facts: JsonObject): void => {
      clearTimeout(late)
      socket.destroy()
      resolve(facts)
    }
    const socket = connect(
      // An address is no server name (RFC 6066, section 3); the certificate is compared with it all the same.
      { host, port, rejectUnauthorized: false, ...(isIP(host) === 0 ? { servername: host } : {}) },
      () => {
        const { valid_to } = socket.getPeerCertificate()
        const endsMs = Date.parse(valid_to)
        // A certificate that is not for this name is an Error; one that the authorities do not vouch for, its code.
        const problem: unknown = socket.authorizationError
        end({
          answers: true,
          protocol: socket.getProtocol() ?? 'unknown',
          authorized: socket.authorized,
          ...(socket.authorized ? {} : { problem: codeOf(problem) }),
          ...(Number.isNaN(endsMs) ? {} : { days_left: Math.floor((endsMs - nowMs) / DAY_MS) }),
        })
      },
    )
    // Of the whole, not of silence: who sends a byte now and then is no better.
    const late = setTimeout(() => end({ answers: false }), timeoutMs)
    // Also after the end, for what a socket has to say when it is destroyed.
    socket.on('error', () => end({ answers: false }))
  })
}

function codeOf(problem: unknown): string {
  const code = problem instanceof Error && 'code' in problem ? problem.code : problem
  return typeof code === 'string' && /^[A-Z_]{1,64}$/.test(code) ? code : 'UNKNOWN'
}
