import { createHash, createHmac, createSecretKey } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { commitment, linkHash, NO_PREDECESSOR } from './link.ts'

const nonce = Buffer.alloc(32, 1)
const key = createSecretKey(Buffer.alloc(32, 5))

describe('links', () => {
  it('commit to nonce and bytes', () => {
    expect(
      commitment(nonce, Buffer.from('{}')).equals(
        createHash('sha256')
          .update(Buffer.concat([nonce, Buffer.from('{}')]))
          .digest(),
      ),
    ).toBe(true)
    expect(() => commitment(nonce.subarray(1), Buffer.from('{}'))).toThrow(RangeError)
  })

  it('hash what the design writes down, framed by hand here', () => {
    const framed = Buffer.concat(
      [
        'SignetV1',
        'application/vnd.signet.link.v1',
        NO_PREDECESSOR,
        Buffer.alloc(32, 2),
        Buffer.alloc(32, 3),
        Buffer.from('0000000100000002', 'hex'),
        'acme',
      ].flatMap((part) => {
        const bytes = Buffer.from(part as string)
        return [Buffer.from(bytes.length.toString(16).padStart(16, '0'), 'hex'), bytes]
      }),
    )
    const found = linkHash({
      key,
      previousHash: NO_PREDECESSOR,
      previousTraceHash: Buffer.alloc(32, 2),
      commitment: Buffer.alloc(32, 3),
      seq: 2 ** 32 + 2,
      tenant: 'acme',
    })
    expect(found.toString('hex')).toBe(createHmac('sha256', Buffer.alloc(32, 5)).update(framed).digest('hex'))
  })

  const good = {
    key,
    previousHash: NO_PREDECESSOR,
    previousTraceHash: NO_PREDECESSOR,
    commitment: NO_PREDECESSOR,
    seq: 1,
    tenant: 'acme',
  }
  it.each([
    { seq: 0 },
    { seq: 1.5 },
    { seq: 2 ** 53 },
    { previousHash: Buffer.alloc(31) },
    { previousTraceHash: Buffer.alloc(0) },
    { commitment: Buffer.alloc(33) },
  ])('refuse %j', (bad) => {
    expect(() => linkHash({ ...good, ...bad })).toThrow(RangeError)
  })
})
