import { describe, expect, it } from 'vitest'
import { NOW } from './bundles.fixture.ts'
import { parseKeyFile, publicTrust, rotateKeys, ROTATION, signingKey, storedTrust } from './signing-keys.ts'

const DAY_MS = 86_400_000
const at = (days: number): Date => new Date(NOW.getTime() + days * DAY_MS)
const none = new Set<string>()

describe('rotation', () => {
  it('announces a key, signs with it, and drops the former one when nothing needs it', async () => {
    const first = await rotateKeys(null, at(0), none, ROTATION)
    const a = signingKey(first, at(0)).kid
    expect(await rotateKeys(first, at(88), none, ROTATION)).toBe(first)

    const announced = await rotateKeys(first, at(89), new Set([a]), ROTATION)
    const b = announced.keys.find(({ kid }) => kid !== a)!.kid
    expect(signingKey(announced, at(89.9)).kid).toBe(a)
    expect(publicTrust(announced, at(89), none, ROTATION).keys.map(({ kid }) => kid)).toEqual([a, b])

    expect(signingKey(announced, at(90)).kid).toBe(b)
    const rotated = await rotateKeys(announced, at(90), new Set([a, b]), ROTATION)
    expect(rotated.keys.map(({ kid, d }) => [kid, d !== undefined])).toEqual([
      [a, false],
      [b, true],
    ])
    // While a bundle in force needs it, and an hour longer, proxies accept it; to sign again what is stored, we do.
    const trusted = (days: number, inForce: ReadonlySet<string>): string[] =>
      publicTrust(rotated, at(days), inForce, ROTATION).keys.map(({ kid }) => kid)
    expect(trusted(90.01, none)).toEqual([a, b])
    expect(trusted(91, new Set([a]))).toEqual([a, b])
    expect(trusted(91, none)).toEqual([b])
    expect(storedTrust(rotated).keys.map(({ kid }) => kid)).toEqual([a, b])
    expect(await rotateKeys(rotated, at(91), new Set([a, b]), ROTATION)).toBe(rotated)
    const last = await rotateKeys(rotated, at(91), new Set([b]), ROTATION)
    expect(last.keys.map(({ kid }) => kid)).toEqual([b])
  })

  it('announces for a whole day also when it comes late', async () => {
    const first = await rotateKeys(null, at(0), none, ROTATION)
    const late = await rotateKeys(first, at(200), none, ROTATION)
    expect(signingKey(late, at(200.9)).kid).toBe(first.keys[0]!.kid)
    expect(signingKey(late, at(201)).kid).not.toBe(first.keys[0]!.kid)
  })

  it('signs with the key that there is when the clock was set back', async () => {
    const first = await rotateKeys(null, at(0), none, ROTATION)
    expect(signingKey(first, at(-10)).kid).toBe(first.keys[0]!.kid)
  })
})

describe('parseKeyFile', () => {
  it.each([
    '',
    '{}',
    '{"version":1,"keys":[]}',
    '{"version":1,"keys":[{"kid":"hunter2","x":"1","y":"2","signs_from":"2026-11-25T09:30:00.000Z"}]}',
  ])('refuses %s, without saying what it holds', (text) => {
    expect(() => parseKeyFile(text)).toThrow(expect.objectContaining({ code: 'BUNDLE_INVALID' }) as Error)
    expect(() => parseKeyFile(text)).not.toThrow(/hunter2/)
  })

  it('refuses a file in which no key can sign', async () => {
    const { keys } = await rotateKeys(null, NOW, none, ROTATION)
    const { d: _, ...publicHalf } = keys[0]!
    expect(() => parseKeyFile(JSON.stringify({ version: 1, keys: [publicHalf] }))).toThrow(/Delete it/)
  })
})
