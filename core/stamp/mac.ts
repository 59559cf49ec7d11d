import { createHmac, timingSafeEqual, type KeyObject } from 'node:crypto'
import { canonicalize } from '../canonical/jcs.ts'
import { parseDigest } from '../crypto/digest.ts'
import { pae } from '../crypto/pae.ts'
import type { Stamp } from './schema.ts'

export const SIGNET_CONTEXT = 'SignetV1'
export const STAMP_PAYLOAD_TYPE = 'application/vnd.signet.stamp.v1+json'

/** Whether the stamp's `mac` is the key's, over everything else that the stamp holds. Compared in constant time. */
export function macMatches(stamp: Stamp, secret: KeyObject): boolean {
  const { mac, ...integrity } = stamp.integrity
  const wanted = createHmac('sha256', secret)
    .update(
      pae(
        SIGNET_CONTEXT,
        STAMP_PAYLOAD_TYPE,
        parseDigest(integrity.payload_digest),
        canonicalize({ ...stamp, integrity }),
      ),
    )
    .digest()
  return timingSafeEqual(wanted, Buffer.from(mac, 'hex'))
}
