import { createHmac, createSecretKey } from 'node:crypto'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { HmacFrame } from './hmac.ts'

it('is the HMAC of the part of the message that is asked for, whatever the key, every time', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 200 }),
      fc.array(fc.uint8Array({ maxLength: 300 }), { minLength: 1, maxLength: 4 }),
      (secret, messages) => {
        const key = createSecretKey(secret)
        const frame = new HmacFrame(key, new Uint8Array(300))
        for (const message of messages) {
          frame.message.set(message)
          expect(frame.mac(message.length)).toBe(createHmac('sha256', key).update(message).digest('hex'))
        }
      },
    ),
  )
})
