import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { SealKey } from '#core/seal/cipher.ts'
import { createSecretBox, readSecretsKey } from './sealed-secret.ts'

const place = { tenant: 'acme', connectorId: 'c1' }
const secret = 'whsec_not-to-be-seen'

describe('createSecretBox', () => {
  const box = createSecretBox(new SealKey(randomBytes(32)), randomBytes)

  it('opens what it sealed, which does not show in it', () => {
    const sealed = box.seal(place, secret)

    expect(sealed.includes(secret)).toBe(false)
    expect(box.open(place, sealed)).toBe(secret)
  })

  it.each([
    ['another tenant', { ...place, tenant: 'globex' }],
    ['another connector', { ...place, connectorId: 'c2' }],
  ])('does not open in the place of %s', (_what, elsewhere) => {
    expect(() => box.open(elsewhere, box.seal(place, secret))).toThrow(/does not open/)
  })

  it('does not open with another key', () => {
    const other = createSecretBox(new SealKey(randomBytes(32)), randomBytes)

    expect(() => other.open(place, box.seal(place, secret))).toThrow(/does not open/)
  })
})

describe('readSecretsKey', () => {
  let folder = ''
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'signet-secrets-'))
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  it('reads a key that opens what was sealed with it', async () => {
    const bytes = randomBytes(32)
    const file = path.join(folder, 'good')
    await writeFile(file, `${bytes.toString('base64')}\n`)
    const sealed = createSecretBox(new SealKey(bytes), randomBytes).seal(place, secret)

    expect(createSecretBox(await readSecretsKey(file), randomBytes).open(place, sealed)).toBe(secret)
  })

  it.each([
    ['short', randomBytes(31).toString('base64')],
    ['no base64', 'a line of text that is no key at all, but long enough'],
    ['empty', ''],
  ])('refuses a file that is %s, and does not repeat it', async (name, text) => {
    const file = path.join(folder, name.replaceAll(' ', '-'))
    await writeFile(file, text)

    const error = await readSecretsKey(file).catch((cause: unknown) => cause)
    expect(error).toMatchObject({ code: 'CONFIG_INVALID' })
    if (text !== '') expect(String(error)).not.toContain(text)
  })

  it('says which file it cannot read', async () => {
    await expect(readSecretsKey(path.join(folder, 'none'))).rejects.toThrow(/none cannot be read/)
  })
})
