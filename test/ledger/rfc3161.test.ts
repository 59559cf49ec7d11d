import { randomBytes, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { timestampRequest, tokenOf, verifyTimestamp } from '#runtime/timestamp/rfc3161.ts'
import { startTimestampAuthority, type TimestampAuthority } from '#test/support/timestamp-authority.ts'

/** Requests and tokens against OpenSSL's authority. */
const MESSAGE = Buffer.from('a manifest')
let authority: TimestampAuthority
let other: TimestampAuthority
beforeAll(async () => {
  ;[authority, other] = await Promise.all([startTimestampAuthority(), startTimestampAuthority()])
})
afterAll(() => Promise.all([authority?.stop(), other?.stop()]))

const rootOf = ({ rootFile }: TimestampAuthority): X509Certificate => new X509Certificate(readFileSync(rootFile))
async function stamped(message = MESSAGE): Promise<Buffer> {
  const nonce = randomBytes(8)
  return tokenOf(authority.reply(timestampRequest(message, nonce)), message, nonce)
}
const invalid = (what: string) =>
  expect.objectContaining({ code: 'TIMESTAMP_INVALID', message: expect.stringContaining(what) })

it('a token says when, and by whom; with the root, that it is to be believed', async () => {
  const token = await stamped()
  const { time, authority: name, trusted } = await verifyTimestamp(token, MESSAGE, [])
  expect(Math.abs(time.getTime() - Date.now())).toBeLessThan(60_000)
  expect([name, trusted]).toEqual(['O=Signet tests, CN=Test authority', false])
  expect(await verifyTimestamp(token, MESSAGE, [rootOf(authority)])).toMatchObject({ trusted: true })
  expect(await verifyTimestamp(token, MESSAGE, [rootOf(other), rootOf(authority)])).toMatchObject({ trusted: true })
})

describe('refused', () => {
  it('for another message', async () => {
    await expect(verifyTimestamp(await stamped(), Buffer.from('another'), [])).rejects.toEqual(
      invalid('does not verify'),
    )
  })
  it('from an authority that leads elsewhere', async () => {
    await expect(verifyTimestamp(await stamped(), MESSAGE, [rootOf(other)])).rejects.toEqual(invalid('does not verify'))
  })
  it('an answer to another request', async () => {
    const answer = authority.reply(timestampRequest(MESSAGE, randomBytes(8)))
    await expect(tokenOf(answer, MESSAGE, randomBytes(8))).rejects.toEqual(invalid('nonce'))
  })
  it('what the authority refuses', async () => {
    // A request cut short is a bad request to it: status 2.
    const answer = authority.reply(timestampRequest(MESSAGE, randomBytes(8)).subarray(0, 20))
    await expect(tokenOf(answer, MESSAGE, randomBytes(8))).rejects.toEqual(invalid('refuses the request'))
  })
  it.each([Buffer.alloc(0), Buffer.from('<html>'), Buffer.of(0x30, 0x84, 0xff, 0xff, 0xff, 0xff), randomBytes(3_000)])(
    'no answer at all',
    async (bytes) => {
      await expect(tokenOf(bytes, MESSAGE, randomBytes(8))).rejects.toEqual(invalid(''))
      await expect(verifyTimestamp(bytes, MESSAGE, [])).rejects.toEqual(invalid(''))
    },
  )
  it('a token that somebody else’s certificate signed', async () => {
    const forged = authority.sign(await stamped(), 'codeSigning')
    await expect(verifyTimestamp(forged, MESSAGE, [rootOf(authority)])).rejects.toEqual(
      invalid('not for time stamping'),
    )
  })
  it('any byte of it that is changed, or is believed only where it changes nothing', async () => {
    const token = await stamped()
    const good = await verifyTimestamp(token, MESSAGE, [rootOf(authority)])
    for (let at = 0; at < token.length; at += 37) {
      const changed = Buffer.from(token)
      changed[at] = (changed[at] as number) ^ 0x55
      const outcome = await verifyTimestamp(changed, MESSAGE, [rootOf(authority)]).catch(
        (error: { code: string }) => error.code,
      )
      // What is not signed (tags of the set of certificates, the unused root) may change; time and authority may not.
      if (outcome !== 'TIMESTAMP_INVALID') expect(outcome).toEqual(good)
    }
  })
})
