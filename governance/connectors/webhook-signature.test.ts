import { describe, expect, it } from 'vitest'
import { parseWebhookSecret, signedHeaders } from './webhook-signature.ts'

describe('signedHeaders', () => {
  it('signs as the specification’s own example does', () => {
    const key = Buffer.from('plJ3nmyCDGBKInavdOK15jsl', 'base64')
    const body = '{"event_type":"ping","data":{"success":true}}'
    const message = { id: 'msg_loFOjxBNrRLzqYUf', seconds: 1_731_705_121, body }

    expect(signedHeaders(key, message)).toEqual({
      'webhook-id': 'msg_loFOjxBNrRLzqYUf',
      'webhook-timestamp': '1731705121',
      'webhook-signature': 'v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=',
    })
  })

  it.each(['', 'a.b', 'a\r\nb', 'x'.repeat(101)])('takes no id %j', (id) => {
    expect(() => signedHeaders(Buffer.alloc(24), { id, seconds: 1, body: '' })).toThrow(RangeError)
  })
})

describe('parseWebhookSecret', () => {
  it.each([24, 64])('takes %i bytes', (length) => {
    const key = Buffer.alloc(length, 7)

    expect(parseWebhookSecret(`whsec_${key.toString('base64')}`)).toEqual(key)
  })

  it.each([
    ['too short', `whsec_${Buffer.alloc(23).toString('base64')}`],
    ['too long', `whsec_${Buffer.alloc(65).toString('base64')}`],
    ['no prefix', Buffer.alloc(24).toString('base64')],
    ['no base64', `whsec_${'!'.repeat(32)}`],
    ['base64url', `whsec_${Buffer.alloc(24, 0xff).toString('base64url')}`],
    ['empty', ''],
  ])('refuses one that is %s, and does not repeat it', (_what, secret) => {
    let message = ''
    try {
      parseWebhookSecret(secret)
    } catch (error) {
      message = String(error)
    }
    expect(message).toContain('a webhook secret is whsec_')
    if (secret !== '') expect(message).not.toContain(secret)
  })
})
