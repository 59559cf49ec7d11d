import { createHmac, type KeyObject } from 'node:crypto'
import { pae } from '../crypto/pae.ts'

/**
 * HMAC-SHA256 over PAE("SignetV1", "application/vnd.signet.mark.{use}.v1", parts…): a name that shows nothing of what it names. `key`: the
 * chain key with the earliest `not_before`, for ever, so that marks stay comparable when keys rotate.
 */
export function mark(key: KeyObject, use: string, ...parts: readonly string[]): Buffer {
  return createHmac('sha256', key)
    .update(pae('SignetV1', `application/vnd.signet.mark.${use}.v1`, ...parts))
    .digest()
}

/** The mark of a trace, as links keep it. */
export function traceMark(key: KeyObject, tenant: string, traceId: string): Buffer {
  return mark(key, 'trace', tenant, traceId)
}
