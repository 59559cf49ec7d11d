import { argon2, randomBytes, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import { SignetError } from '#core/error/signet-error.ts'

const derive = promisify(argon2)

/** OWASP's password storage cheat sheet for argon2id (2025): m = 19 MiB, t = 2, p = 1. */
const MEMORY_KIB = 19_456
const PASSES = 2
const PARALLELISM = 1
const TAG_BYTES = 32
const SALT_BYTES = 16
/** NIST SP 800-63B-4, section 3.1.1.2: length counts, composition rules do not help. */
export const MIN_PASSWORD_CHARS = 15
export const MAX_PASSWORD_CHARS = 256
/** Hashes at once: each takes 19 MiB and a thread of the pool, and whoever asks for one need not have shown who they are. */
const MAX_AT_ONCE = 2
const MAX_WAITING = 64

/** The string format of the Password Hashing Competition (github.com/P-H-C/phc-string-format). */
const PHC = /^\$argon2id\$v=19\$m=(\d{1,7}),t=(\d{1,3}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})$/

type Cost = { readonly memory: number; readonly passes: number; readonly parallelism: number }
const COST: Cost = { memory: MEMORY_KIB, passes: PASSES, parallelism: PARALLELISM }

/** Hashes a password with argon2id (RFC 9106) into a PHC string. @throws SignetError TOO_MANY_REQUESTS when too many wait */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(SALT_BYTES)
  const tag = await derived(password, salt, COST, TAG_BYTES)
  return `$argon2id$v=19$m=${MEMORY_KIB},t=${PASSES},p=${PARALLELISM}$${unpadded(salt)}$${unpadded(tag)}`
}

/**
 * Whether a password is the one of a PHC string. `null` (no such user, no password) takes as long as a wrong password and is false.
 * @throws SignetError TOO_MANY_REQUESTS when too many wait
 */
export async function passwordMatches(password: string, phc: string | null): Promise<boolean> {
  const [, memory, passes, parallelism, salt = '', tag = ''] = PHC.exec(phc ?? '') ?? []
  if (memory === undefined) {
    await derived(password, Buffer.alloc(SALT_BYTES), COST, TAG_BYTES)
    return false
  }
  const expected = Buffer.from(tag, 'base64')
  const cost = { memory: Number(memory), passes: Number(passes), parallelism: Number(parallelism) }
  const found = await derived(password, Buffer.from(salt, 'base64'), cost, expected.length)
  return timingSafeEqual(found, expected)
}

let running = 0
const waiting: (() => void)[] = []

async function derived(password: string, salt: Buffer, cost: Cost, tagLength: number): Promise<Buffer> {
  if (running >= MAX_AT_ONCE) {
    if (waiting.length >= MAX_WAITING)
      throw new SignetError(
        'TOO_MANY_REQUESTS',
        'too many passwords are being checked at the moment; try again shortly',
      )
    await new Promise<void>((resolve) => waiting.push(resolve))
  } else running += 1
  try {
    const message = Buffer.from(password.normalize('NFKC'))
    return await derive('argon2id', { message, nonce: salt, ...cost, tagLength })
  } finally {
    // Whoever waits takes the place over.
    const next = waiting.shift()
    if (next === undefined) running -= 1
    else next()
  }
}

function unpadded(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '')
}
