import { describe, expect, it } from 'vitest'
import { SignetError } from '#core/error/signet-error.ts'
import { createServiceAccountAuthenticator, type ReviewedPod } from './service-account.ts'

const POD: ReviewedPod = { namespace: 'reports', serviceAccount: 'api', pod: { name: 'api-1', uid: 'u-1' } }
const token = (claims: object = {}): string =>
  `eyJhbGciOiJSUzI1NiJ9.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.c2ln`

function scene(
  answer: (token: string) => ReviewedPod | null | Error,
  options: { cacheMs?: number; maxReviews?: number } = {},
) {
  const clock = { ms: 1_000_000 }
  const asked: string[] = []
  const authenticator = createServiceAccountAuthenticator({
    review: async (text, audience) => {
      asked.push(audience)
      await Promise.resolve()
      const given = answer(text)
      if (given instanceof Error) throw given
      return given
    },
    audience: 'signet-ledger',
    cacheMs: options.cacheMs ?? 30_000,
    now: () => clock.ms,
    maxEntries: 2,
    ...(options.maxReviews === undefined ? {} : { maxReviews: options.maxReviews }),
  })
  return {
    clock,
    asked,
    authenticate: (...args: Parameters<typeof authenticator.authenticate>) => authenticator.authenticate(...args),
  }
}

describe('createServiceAccountAuthenticator', () => {
  it('asks for its audience, and remembers the answer for its time', async () => {
    const { clock, asked, authenticate } = scene(() => POD)
    expect(await authenticate(`Bearer ${token()}`)).toEqual(POD)
    clock.ms += 29_999
    await authenticate(`Bearer ${token()}`)
    expect(asked).toEqual(['signet-ledger'])
    clock.ms += 1
    await authenticate(`Bearer ${token()}`)
    expect(asked).toHaveLength(2)
  })

  it('asks again when told to, and when the clock steps back', async () => {
    const { clock, asked, authenticate } = scene(() => POD)
    await authenticate(`Bearer ${token()}`)
    await authenticate(`Bearer ${token()}`, { fresh: true })
    expect(asked).toHaveLength(2)
    clock.ms -= 500_000
    await authenticate(`Bearer ${token()}`)
    expect(asked).toHaveLength(3)
  })

  it('remembers who is known, however many are not', async () => {
    const good = token()
    const { asked, authenticate } = scene((text) => (text === good ? POD : null))
    await authenticate(`Bearer ${good}`)
    for (let i = 0; i < 5; i++) await expect(authenticate(`Bearer ${token({ i })}`)).rejects.toThrow('not known')
    await authenticate(`Bearer ${good}`)
    expect(asked).toHaveLength(6)
  })

  it('forgets a token when it ends', async () => {
    const { clock, asked, authenticate } = scene(() => POD)
    const ending = token({ exp: 1_002 })
    await authenticate(`Bearer ${ending}`)
    clock.ms += 2_000
    await authenticate(`Bearer ${ending}`)
    expect(asked).toHaveLength(2)
  })

  it('is one review for callers that come together', async () => {
    const { asked, authenticate } = scene(() => POD)
    await Promise.all(Array.from({ length: 20 }, () => authenticate(`Bearer ${token()}`)))
    expect(asked).toHaveLength(1)
  })

  it('refuses, and asks again soon', async () => {
    const { clock, asked, authenticate } = scene(() => null)
    const attempt = () => authenticate(`Bearer ${token()}`)
    await expect(attempt()).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
    await expect(attempt()).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
    expect(asked).toHaveLength(1)
    clock.ms += 1_000
    await expect(attempt()).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
    expect(asked).toHaveLength(2)
  })

  it('lets nobody in while the API server is away, and remembers nothing of it', async () => {
    const state = { away: true }
    const { asked, authenticate } = scene(() => (state.away ? new SignetError('KUBERNETES_UNAVAILABLE', 'away') : POD))
    await expect(authenticate(`Bearer ${token()}`)).rejects.toMatchObject({ code: 'IDENTITY_UNAVAILABLE', status: 503 })
    state.away = false
    expect(await authenticate(`Bearer ${token()}`)).toEqual(POD)
    expect(asked).toHaveLength(2)
  })

  it('does not ask about what is no token of this kind', async () => {
    const { asked, authenticate } = scene(() => POD)
    for (const header of [
      undefined,
      '',
      'Bearer',
      'Bearer abc',
      'Basic a.b.c',
      'Bearer a.b',
      `Bearer a.${'b'.repeat(9_000)}.c`,
    ])
      await expect(authenticate(header)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
    expect(asked).toEqual([])
  })

  it('is bounded: answers that are held, and reviews under way', async () => {
    const { asked, authenticate } = scene(() => POD, { maxReviews: 2 })
    const texts = [1, 2, 3].map((exp) => `Bearer ${token({ exp: exp * 10_000 })}`)
    const results = await Promise.allSettled(texts.map((text) => authenticate(text)))
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected'])
    expect(results[2]).toMatchObject({ reason: { code: 'IDENTITY_UNAVAILABLE' } })
    await authenticate(texts[2])
    await authenticate(texts[0])
    expect(asked).toHaveLength(4)
  })
})
