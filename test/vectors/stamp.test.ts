import { describe, expect, it } from 'vitest'
import { SignetError } from '#core/error/signet-error.ts'
import { indexKeyring, parseKeyring } from '#core/keyring/keyring.ts'
import { findStamps } from '#core/stamp/content.ts'
import type { Channel } from '#core/stamp/schema.ts'
import { targetDigest } from '#core/stamp/subject.ts'
import { verifyStamp, type VerifiedStamp } from '#core/stamp/verify.ts'
import { readKeyringText, readStampVectors, type StampVectorCase } from './stamp-vectors.ts'

const keyring = indexKeyring(parseKeyring(readKeyringText()))

function verify({ content, sidecar, header, expected }: StampVectorCase): VerifiedStamp[] {
  const { payload, stamps } = findStamps(content, { sidecar, header })
  const { target, channel, ...rest } = expected
  const subject = { ...rest, ...(target === undefined ? {} : { target_digest: targetDigest(target) }), ...(channel === undefined ? {} : { channel: channel as Channel }) }
  return stamps.map((stampBytes) => verifyStamp({ stampBytes, payload, keyring, expected: subject }))
}

describe.each(readStampVectors())('$file', ({ cases }) => {
  it.each(cases)('$name: exit $want.exit', (vector) => {
    const { want } = vector
    if (want.exit === 1) {
      try {
        verify(vector)
        expect.unreachable()
      } catch (error) {
        expect(error).toBeInstanceOf(SignetError)
        expect(error).toMatchObject({ code: want.code })
      }
    } else {
      for (const found of verify(vector)) expect(found).toMatchObject({ hash: want.stamp_hash, subjectChecked: want.exit === 0 })
    }
  })
})
