import { createHmac, type KeyObject } from 'node:crypto'
import { HmacFrame } from '../crypto/hmac.ts'
import { pae } from '../crypto/pae.ts'

/**
 * HMAC-SHA256 over PAE("SignetV1", "application/vnd.signet.mark.{use}.v1", parts…): a name that shows nothing of what it names. `key`: the
 * chain key with the earliest `not_before`, for ever, so that marks stay comparable when keys rotate.
 */
export function mark(key: KeyObject, use: string, ...parts: readonly string[]): Buffer {
  const message = pae('SignetV1', `application/vnd.signet.mark.${use}.v1`, ...parts)
  if (message.length > FRAME_BYTES) return createHmac('sha256', key).update(message).digest()
  let frame = frames.get(key)
  if (frame === undefined) {
    frame = new HmacFrame(key, Buffer.alloc(FRAME_BYTES))
    frames.set(key, frame)
  }
  frame.message.set(message)
  return Buffer.from(frame.mac(message.length), 'hex')
}

/** What the names of a trace and its tenant fit: a verifier makes a mark for each trace. */
const FRAME_BYTES = 1_024
const frames = new WeakMap<KeyObject, HmacFrame>()

/** The mark of a trace, as links keep it. */
export function traceMark(key: KeyObject, tenant: string, traceId: string): Buffer {
  return mark(key, 'trace', tenant, traceId)
}
