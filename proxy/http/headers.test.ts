import { describe, expect, test } from 'vitest'
import {
  forbidsTransform,
  stampedResponseHeaders,
  transparentResponseHeaders,
  upstreamRequestHeaders,
  type RequestRewrite,
} from './headers.ts'

const REWRITE: RequestRewrite = {
  requestId: 'r-1',
  traceparent: '00-t-s-01',
  transparent: false,
  acceptEncoding: 'zstd',
  ifNoneMatch: null,
  ifMatch: null,
  clientAddress: '192.0.2.7',
  scheme: 'http',
}

function pairs(flat: readonly string[]): Record<string, string[]> {
  const out: Record<string, string[]> = {}
  for (let i = 0; i < flat.length; i += 2) (out[(flat[i] as string).toLowerCase()] ??= []).push(flat[i + 1] as string)
  return out
}

function request(headers: Record<string, string>, rewrite: Partial<RequestRewrite> = {}): Record<string, string[]> {
  const lower = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
  return pairs(upstreamRequestHeaders(Object.entries(headers).flat(), lower, { ...REWRITE, ...rewrite }))
}

describe('upstreamRequestHeaders', () => {
  test('asks for the codings that it is told, and for the whole of what will be read', () => {
    const sent = request({
      'Accept-Encoding': 'gzip',
      Range: 'bytes=0-9',
      'If-Range': '"x"',
      'If-Modified-Since': 'yesterday',
    })
    expect(sent['accept-encoding']).toEqual(['zstd'])
    for (const name of ['range', 'if-range', 'if-modified-since']) expect(sent[name]).toBeUndefined()
  })

  test('leaves them alone where the exchange is transparent', () => {
    const sent = request(
      { 'Accept-Encoding': 'gzip', Range: 'bytes=0-9', 'If-None-Match': '"x"' },
      { transparent: true },
    )
    expect(sent['accept-encoding']).toEqual(['gzip'])
    expect(sent['range']).toEqual(['bytes=0-9'])
    expect(sent['if-none-match']).toEqual(['"x"'])
  })

  test.each([
    'Connection',
    'Keep-Alive',
    'Proxy-Authorization',
    'TE',
    'Trailer',
    'Transfer-Encoding',
    'Upgrade',
    'Expect',
  ])('drops %s', (name) => {
    expect(request({ [name]: 'x' })[name.toLowerCase()]).toBeUndefined()
  })

  test('drops what Connection names', () => {
    expect(request({ Connection: 'close, X-Private', 'X-Private': '1', 'X-Kept': '2' })).toMatchObject({
      'x-kept': ['2'],
    })
    expect(request({ Connection: 'close, X-Private', 'X-Private': '1' })['x-private']).toBeUndefined()
  })

  test('passes no Signet field of a client on', () => {
    expect(request({ 'Signet-Caller-Roles': 'admin', 'sIgNeT-x': '1' })).not.toHaveProperty('signet-caller-roles')
    expect(request({ 'sIgNeT-x': '1' })).not.toHaveProperty('signet-x')
  })

  test('nor with underscores, and no method override', () => {
    expect(request({ Signet_Caller_Roles: 'admin' })).not.toHaveProperty('signet_caller_roles')
    expect(request({ 'X-HTTP-Method-Override': 'GET' })).not.toHaveProperty('x-http-method-override')
  })

  test('says who asked, and replaces what a client says of request and trace', () => {
    const sent = request({
      'X-Forwarded-For': '198.51.100.1',
      'X-Request-Id': 'theirs',
      traceparent: 'theirs',
      'X-Forwarded-Proto': 'https',
    })
    expect(sent['x-forwarded-for']).toEqual(['198.51.100.1, 192.0.2.7'])
    expect(sent['x-request-id']).toEqual(['r-1'])
    expect(sent['traceparent']).toEqual(['00-t-s-01'])
    expect(sent['x-forwarded-proto']).toEqual(['http'])
  })
})

const STAMPED = {
  etag: null,
  reframed: true,
  contentEncoding: null,
  codingVaries: false,
  stampHeader: 'sha256:x',
  link: '</s>; rel="describedby"',
  callerSpecific: false,
}

describe('stampedResponseHeaders', () => {
  test.each([
    'connection',
    'keep-alive',
    'transfer-encoding',
    'trailer',
    'upgrade',
    'digest',
    'content-digest',
    'repr-digest',
    'content-md5',
    'signature',
    'signature-input',
    'alt-svc',
    'content-length',
    'content-encoding',
    'etag',
    'signet-data-classification',
  ])('removes %s', (name) => {
    expect(pairs(stampedResponseHeaders({ [name]: 'x' }, STAMPED))).not.toHaveProperty(name)
  })

  test("replaces the upstream's stamp", () => {
    expect(pairs(stampedResponseHeaders({ 'compliance-stamp': 'theirs' }, STAMPED))['compliance-stamp']).toEqual([
      'sha256:x',
    ])
  })

  test('keeps each value of a repeated field, and adds its link to theirs', () => {
    const sent = pairs(stampedResponseHeaders({ 'set-cookie': ['a=1', 'b=2'], link: '</next>; rel="next"' }, STAMPED))
    expect(sent['set-cookie']).toEqual(['a=1', 'b=2'])
    expect(sent['link']).toEqual(['</next>; rel="next"', '</s>; rel="describedby"'])
  })

  test('a stamp link of the upstream does not pass', () => {
    const link = ['</a>; rel="next"', '</.well-known/signet/stamps/x>; rel="describedby"']
    expect(pairs(stampedResponseHeaders({ link }, STAMPED))['link']).toEqual([link[0], STAMPED.link])
  })

  test('Connection cannot take away what says how to read the body', () => {
    const sent = pairs(
      stampedResponseHeaders({ connection: 'content-type, x-y', 'content-type': 'text/csv', 'x-y': '1' }, STAMPED),
    )
    expect(sent['content-type']).toEqual(['text/csv'])
    expect(sent).not.toHaveProperty('x-y')
  })

  test('ranges are not served', () => {
    expect(pairs(stampedResponseHeaders({ 'accept-ranges': 'bytes' }, STAMPED))['accept-ranges']).toEqual(['none'])
  })

  test.each([
    { given: {}, want: ['private'] },
    { given: { 'cache-control': 'public, max-age=60, s-maxage=600' }, want: ['private, max-age=60'] },
  ])('an answer for one caller is not shared: $given', ({ given, want }) => {
    const sent = pairs(stampedResponseHeaders({ ...given, vary: 'Origin' }, { ...STAMPED, callerSpecific: true }))
    expect(sent['cache-control']).toEqual(want)
    expect(sent['vary']).toEqual(['Origin, Authorization'])
  })

  test.each([
    { given: undefined, want: 'Accept-Encoding' },
    { given: 'Origin', want: 'Origin, Accept-Encoding' },
    { given: 'origin,accept-encoding', want: 'origin,accept-encoding' },
    { given: 'X-Accept-Encoding', want: 'X-Accept-Encoding, Accept-Encoding' },
    { given: '*', want: '*' },
  ])('says that the coding varies, once: $given', ({ given, want }) => {
    const rewrite = { ...STAMPED, codingVaries: true, contentEncoding: 'br' }
    const sent = pairs(
      stampedResponseHeaders({ 'content-encoding': 'gzip', ...(given === undefined ? {} : { vary: given }) }, rewrite),
    )
    expect(sent['vary']).toEqual([want])
    expect(sent['content-encoding']).toEqual(['br'])
  })

  test.each([
    { given: {}, want: undefined },
    { given: { 'access-control-allow-origin': '*' }, want: ['Compliance-Stamp, Link'] },
    { given: { 'access-control-expose-headers': 'X-Total' }, want: ['X-Total, Compliance-Stamp, Link'] },
    { given: { 'access-control-expose-headers': '*' }, want: ['*'] },
  ])('exposes its headers to scripts where CORS is in use: $given', ({ given, want }) => {
    expect(pairs(stampedResponseHeaders(given, STAMPED))['access-control-expose-headers']).toEqual(want)
  })
})

test('transparentResponseHeaders changes nothing but hop-by-hop fields and what was meant for us', () => {
  const sent = pairs(
    transparentResponseHeaders({
      etag: '"x"',
      'content-length': '3',
      connection: 'close',
      'signet-data-classification': 'public',
      digest: 'd',
    }),
  )
  expect(sent).toEqual({ etag: ['"x"'], 'content-length': ['3'], digest: ['d'] })
})

test.each([
  { value: undefined, want: false },
  { value: 'no-transform', want: true },
  { value: 'max-age=1,No-Transform', want: true },
  { value: 'x-no-transform-y', want: false },
])('forbidsTransform $value', ({ value, want }) => {
  expect(forbidsTransform(value)).toBe(want)
})
