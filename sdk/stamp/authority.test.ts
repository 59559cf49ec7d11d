import { describe, expect, test } from 'vitest'
import { judgeStamp } from '#core/stamp/verdict.ts'
import { EXPECTED, KEYRING, KEYS, stampOf } from '#core/stamp/stamp.fixture.ts'
import { keyringAuthority, ledgerAuthority } from './authority.ts'

const PAYLOAD = Buffer.from('{"a":1}')
const signal = new AbortController().signal
const toJudge = (jcs: string, payload = PAYLOAD) => ({ stampBytes: Buffer.from(jcs), payload, expected: EXPECTED })

function ledger(answer: (stamp: Uint8Array) => Response | Promise<Response>) {
  const asked: Request[] = []
  let nowMs = 0
  const authority = ledgerAuthority({
    url: 'https://ledger.test',
    token: () => 'the-token',
    now: () => nowMs,
    fetch: async (input, init) => {
      const request = new Request(input, init)
      asked.push(request)
      return answer(new Uint8Array(await request.clone().arrayBuffer()))
    },
  })
  return { authority, asked, pass: (ms: number) => void (nowMs += ms) }
}
const vouching = (stamp: Uint8Array) => Response.json(judgeStamp(stamp, KEYS, 'acme'))

describe('the ledger as authority', () => {
  test('is asked once a minute about a stamp, with the token', async () => {
    const { authority, asked, pass } = ledger(vouching)
    const { jcs, hash } = stampOf(PAYLOAD)
    expect((await authority(toJudge(jcs), signal)).hash).toBe(hash)
    pass(59_000)
    await authority(toJudge(jcs), signal)
    expect(asked).toHaveLength(1)
    expect(asked[0]?.url).toBe('https://ledger.test/api/audit/stamps/verify')
    expect(asked[0]?.headers.get('authorization')).toBe('Bearer the-token')
    pass(2_000)
    await authority(toJudge(jcs), signal)
    expect(asked).toHaveLength(2)
  })

  test('is not asked about what is wrong already, and what it vouched for is still compared', async () => {
    const { authority, asked } = ledger(vouching)
    const { jcs } = stampOf(PAYLOAD)
    await expect(authority(toJudge(jcs, Buffer.from('{"a":2}')), signal)).rejects.toMatchObject({
      code: 'STAMP_PAYLOAD_MISMATCH',
    })
    expect(asked).toHaveLength(0)
    await authority(toJudge(jcs), signal)
    await expect(authority({ ...toJudge(jcs), expected: { ...EXPECTED, status: 404 } }, signal)).rejects.toMatchObject({
      code: 'STAMP_SUBJECT_MISMATCH',
    })
  })

  const forged = stampOf(PAYLOAD).jcs.replace('"approved"', '"rejected"')
  test.each<{ name: string; jcs?: string; answer: (stamp: Uint8Array) => Response; want: string }>([
    { name: 'a forged stamp', jcs: forged, answer: vouching, want: 'STAMP_MAC_MISMATCH' },
    {
      name: 'a revoked key',
      jcs: stampOf(PAYLOAD, { keyId: 'reports-2026' }).jcs.replace('reports-2026', 'nobodys-2026'),
      answer: vouching,
      want: 'STAMP_KEY_UNKNOWN',
    },
    { name: 'a status', answer: () => new Response('', { status: 403 }), want: 'LEDGER_REFUSED' },
    { name: 'no JSON', answer: () => new Response('yes'), want: 'LEDGER_RESPONSE_INVALID' },
    {
      name: 'a verdict on another stamp',
      answer: () => vouching(Buffer.from(forged)),
      want: 'LEDGER_RESPONSE_INVALID',
    },
    {
      name: 'no boolean',
      answer: (stamp) => Response.json({ ...judgeStamp(stamp, KEYS, 'acme'), verified: 1 }),
      want: 'LEDGER_RESPONSE_INVALID',
    },
    {
      name: 'no without a reason',
      answer: (stamp) => Response.json({ ...judgeStamp(stamp, KEYS, 'acme'), verified: false }),
      want: 'STAMP_MAC_MISMATCH',
    },
    {
      name: 'a reason of its own',
      answer: (stamp) =>
        Response.json({ ...judgeStamp(stamp, KEYS, 'acme'), verified: false, code: 'STAMP_constructor' }),
      want: 'STAMP_MAC_MISMATCH',
    },
    { name: 'an endless answer', answer: () => new Response(new Uint8Array(70_000)), want: 'LEDGER_UNREACHABLE' },
    {
      name: 'no connection',
      answer: () => {
        throw new TypeError('fetch failed')
      },
      want: 'LEDGER_UNREACHABLE',
    },
  ])('$name: $want', async ({ jcs = stampOf(PAYLOAD).jcs, answer, want }) => {
    const { authority, asked } = ledger(answer)
    await expect(authority(toJudge(jcs), signal)).rejects.toMatchObject({ code: want })
    // Nothing is remembered of an answer that was none.
    await expect(authority(toJudge(jcs), signal)).rejects.toMatchObject({ code: want })
    expect(asked).toHaveLength(want.startsWith('LEDGER') ? 2 : 1)
  })
})

test('a keyring as authority verifies all', async () => {
  const authority = keyringAuthority(JSON.stringify(KEYRING))
  await expect(authority(toJudge(forgedStamp()), signal)).rejects.toMatchObject({ code: 'STAMP_MAC_MISMATCH' })
  expect((await authority(toJudge(stampOf(PAYLOAD).jcs), signal)).subjectChecked).toBe(true)
})

const forgedStamp = (): string => stampOf(PAYLOAD).jcs.replace('"approved"', '"rejected"')
