import { randomFillSync } from 'node:crypto'

// One call into the CSPRNG fills for hundreds of ids: a call an id costs more than everything else here.
const POOL_BYTES = 4096
const pool = Buffer.allocUnsafe(POOL_BYTES)
/** The same in hex, written once: ids are cut from it. */
let poolHex = ''
let poolOffset = POOL_BYTES

function take(bytes: number): number {
  if (poolOffset + bytes > POOL_BYTES) {
    randomFillSync(pool)
    poolHex = pool.toString('hex')
    poolOffset = 0
  }
  const start = poolOffset
  poolOffset += bytes
  return start
}

function hexAt(start: number, bytes: number): string {
  return poolHex.slice(2 * start, 2 * (start + bytes))
}

function randomHex(bytes: number): string {
  return hexAt(take(bytes), bytes)
}

/** A W3C trace id: 32 lowercase hex digits, never all zero. Random in all its 128 bits. */
export function newTraceId(): string {
  for (;;) {
    const id = randomHex(16)
    if (id !== '00000000000000000000000000000000') return id
  }
}

/** A W3C parent (span) id: 16 lowercase hex digits, never all zero. */
export function newSpanId(): string {
  for (;;) {
    const id = randomHex(8)
    if (id !== '0000000000000000') return id
  }
}

const MAX_COUNTER = 0xfff
const VERSION_7 = 0x7000
/** The variant of RFC 9562 §4.1 in the upper two bits. */
const VARIANTS = ['8', '9', 'a', 'b']
const MAX_TIMESTAMP_MS = 0xffff_ffff_ffff

/**
 * A generator of UUIDs version 7 (RFC 9562, section 5.7) that sort in the order they were made, also within a millisecond and
 * when the clock steps back: `rand_a` is a 12-bit counter seeded at random in its lower half (section 6.2, method 1), and a
 * counter that runs out moves the timestamp one millisecond ahead. `now`: milliseconds since the epoch.
 */
export function createUuidV7(now: () => number = Date.now): () => string {
  let lastMs = -1
  let counter = 0
  /** The text of `lastMs`: many ids are made within a millisecond. */
  let prefix = ''
  let prefixMs = -1
  return () => {
    const at = Math.min(Math.max(Math.floor(now()), 0), MAX_TIMESTAMP_MS)
    const start = take(10)
    if (at > lastMs) {
      lastMs = at
      counter = pool.readUInt16BE(start) & 0x7ff
    } else if (counter === MAX_COUNTER) {
      lastMs += 1
      counter = pool.readUInt16BE(start) & 0x7ff
    } else {
      counter += 1
    }
    if (lastMs !== prefixMs) {
      const time = lastMs.toString(16).padStart(12, '0')
      prefix = `${time.slice(0, 8)}-${time.slice(8)}-`
      prefixMs = lastMs
    }
    const random = hexAt(start + 2, 8)
    const variant = VARIANTS[((pool[start + 2] as number) >> 4) & 3]
    const version = (VERSION_7 | counter).toString(16)
    return `${prefix}${version}-${variant}${random.slice(1, 4)}-${random.slice(4)}`
  }
}

/** A UUID version 7 by this process's clock; see `createUuidV7`. */
export const uuidV7: () => string = createUuidV7()
