import { createHmac } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { canonicalize } from '#core/canonical/jcs.ts'
import { digestText, parseDigest } from '#core/crypto/digest.ts'
import { pae } from '#core/crypto/pae.ts'
import { scanStructure } from '#core/json/scan.ts'
import { formatStampHeader } from '#core/stamp/header.ts'
import { SIGNET_CONTEXT, STAMP_PAYLOAD_TYPE } from '#core/stamp/mac.ts'
import { jcsPayload } from '#core/stamp/payload.ts'
import { embedStamp } from '#core/stamp/splice.ts'
import { CLAIMS, KEYRING, KEYS, stampOf, TARGET } from '#core/stamp/stamp.fixture.ts'

export const VECTORS_FOLDER = fileURLToPath(new URL('../test/vectors/stamp/', import.meta.url))

/** What a verifier is told of the answer, as the flags of `signet verify` have it. */
export type ExpectedAnswer = { target?: string; method?: string; status?: number; tenant?: string; channel?: string }
export type StampVector = {
  name: string
  body?: string
  body_base64?: string
  sidecar?: string
  sidecar_base64?: string
  header?: string
  expected?: ExpectedAnswer
  want: { exit: 0 | 3; stamp_hash: string } | { exit: 1; code: string }
}
export type StampVectorFile = { about: string; cases: StampVector[] }

const EXPECTED: ExpectedAnswer = { target: TARGET, method: 'GET', status: 200, tenant: 'acme', channel: 'external' }
const PAYLOAD = '{"total": 12.50,\n "rows": [1, 2, {"_compliance": "deeper is payload"}], "name": "Zoë \\u00e9 😀"}\n'

function embed(payload: string, stamp: string): string {
  const bytes = Buffer.from(payload)
  const { closeBrace, isEmpty } = scanStructure(bytes)
  return embedStamp(bytes, closeBrace, isEmpty, stamp).toString()
}

type Loose = Record<string, unknown>
/** A stamp with anything in it under a true MAC, as only the holder of a key can make it. */
function forge(jcs: string, change: (stamp: Loose, integrity: Loose) => void, secret: number | Buffer = 1): string {
  const stamp = JSON.parse(jcs) as Loose
  const integrity = stamp['integrity'] as Loose
  delete integrity['mac']
  change(stamp, integrity)
  const digest = parseDigest(String(integrity['payload_digest']))
  integrity['mac'] = createHmac('sha256', typeof secret === 'number' ? Buffer.alloc(32, secret) : secret)
    .update(pae(SIGNET_CONTEXT, STAMP_PAYLOAD_TYPE, digest, canonicalize(stamp)))
    .digest('hex')
  return canonicalize(stamp)
}

const valid = (name: string, jcs: string, rest: Omit<StampVector, 'name' | 'want'>): StampVector => ({
  name,
  expected: EXPECTED,
  ...rest,
  want: { exit: 0, stamp_hash: digestText(jcs) },
})
const invalid = (name: string, code: string, rest: Omit<StampVector, 'name' | 'want'>): StampVector => ({
  name,
  expected: EXPECTED,
  ...rest,
  want: { exit: 1, code },
})

function validCases(): StampVector[] {
  const csv = 'id,name\r\n1,Zoë\r\n'
  const image = Buffer.from('89504e470d0a1a0a00ff', 'hex')
  const array = '[{"_compliance": 1}]'
  const of = (payload: string) => stampOf(payload).jcs
  const jcsPayloadText =
    '{"b":[1.0,1E2,-0,0.1,333333333.3333333,1e21,5e-324,100000000000000000000],"a":"\\u20ac\\u000f\\"/"}'
  const jcsStamp = stampOf(jcsPayloadText, { canonicalization: 'jcs' }).jcs
  const open = stampOf(PAYLOAD, {
    claims: { ...CLAIMS, zz_future: { b: 1, a: [null, true, 1e-7, 'ü'] }, '\ufb33': 1, '😀': 2 } as typeof CLAIMS,
  }).jcs
  const beforeRevocation = stampOf(PAYLOAD, {
    keyId: 'reports-revoked',
    claims: { ...CLAIMS, timestamp_utc: '2026-05-31T23:59:59.999Z' },
  }).jcs
  return [
    valid('embedded', of(PAYLOAD), { body: embed(PAYLOAD, of(PAYLOAD)) }),
    valid('embedded in an empty object', of('{}'), { body: embed('{}', of('{}')) }),
    valid('embedded in an empty object with white space', of(' { \n} '), { body: embed(' { \n} ', of(' { \n} ')) }),
    valid('embedded, white space before the brace', of('{"a":1\n}\n'), {
      body: embed('{"a":1\n}\n', of('{"a":1\n}\n')),
    }),
    valid('embedded, names that only look like it', of('{"_Compliance":1,"\\\\u005fcompliance":2}'), {
      body: embed('{"_Compliance":1,"\\\\u005fcompliance":2}', of('{"_Compliance":1,"\\\\u005fcompliance":2}')),
    }),
    valid('embedded, with its hash in the header', of(PAYLOAD), {
      body: embed(PAYLOAD, of(PAYLOAD)),
      header: formatStampHeader(digestText(of(PAYLOAD)), null),
    }),
    valid('embedded, and the same as sidecar', of(PAYLOAD), {
      body: embed(PAYLOAD, of(PAYLOAD)),
      sidecar: of(PAYLOAD),
    }),
    valid('in the header', of(csv), { body: csv, header: formatStampHeader(digestText(of(csv)), of(csv)) }),
    valid('in the header, with other parameters', of(csv), {
      body: csv,
      header: `${formatStampHeader(digestText(of(csv)), of(csv)).replace('; ', ';v=1;  x="a\\"b";')};y`,
    }),
    valid('in the header of an array', of(array), {
      body: array,
      header: formatStampHeader(digestText(of(array)), of(array)),
    }),
    valid('in the header of an empty answer', of(''), {
      body: '',
      header: formatStampHeader(digestText(of('')), of('')),
    }),
    valid('sidecar', of(csv), { body: csv, sidecar: of(csv) }),
    valid('sidecar of bytes that are no text', stampOf(image).jcs, {
      body_base64: image.toString('base64'),
      sidecar: stampOf(image).jcs,
    }),
    valid('sidecar of JSON that is broken', of('{"a":'), { body: '{"a":', sidecar: of('{"a":') }),
    valid('canonicalization jcs', jcsStamp, { body: embed(jcsPayloadText, jcsStamp) }),
    valid('canonicalization jcs, written in another way', jcsStamp, {
      body: embed(
        '{ "a": "\u20ac\\u000F\\"\\/",\n"b": [1,100,0,1e-1,333333333.3333333,1000000000000000000000,5.0e-324,1e20] }',
        jcsStamp,
      ),
    }),
    valid('members that nobody knows', open, { body: embed(PAYLOAD, open) }),
    valid('a key revoked later', beforeRevocation, { body: embed(PAYLOAD, beforeRevocation) }),
  ]
}

function subjectCases(): StampVector[] {
  const { jcs, hash } = stampOf(PAYLOAD)
  const body = embed(PAYLOAD, jcs)
  const mismatch = (name: string, change: ExpectedAnswer) =>
    invalid(name, 'STAMP_SUBJECT_MISMATCH', { body, expected: { ...EXPECTED, ...change } })
  return [
    mismatch('another target', { target: '/reports/q4?format=json' }),
    mismatch('the target without its query', { target: '/reports/q3' }),
    mismatch('the target in another spelling', { target: '/reports/%713?format=json' }),
    mismatch('another method', { method: 'HEAD' }),
    mismatch('another status', { status: 404 }),
    mismatch('another tenant', { tenant: 'globex' }),
    mismatch('another channel', { channel: 'internal' }),
    invalid('one of few that differs', 'STAMP_SUBJECT_MISMATCH', { body, expected: { tenant: 'globex' } }),
    { name: 'nothing expected', body, want: { exit: 3, stamp_hash: hash } },
    { name: 'a part expected', body, expected: { target: TARGET, status: 200 }, want: { exit: 3, stamp_hash: hash } },
  ]
}

function stampCases(): StampVector[] {
  const { jcs, hash } = stampOf(PAYLOAD)
  const withStamp = (name: string, code: string, stamp: string) =>
    invalid(name, code, { body: PAYLOAD, sidecar: stamp })
  const mac = JSON.parse(jcs).integrity.mac as string
  const flippedMac = `${mac.startsWith('0') ? '1' : '0'}${mac.slice(1)}`
  const integrityOf = (change: (integrity: Loose) => void, secretByte?: number) =>
    forge(jcs, (_stamp, integrity) => change(integrity), secretByte)
  return [
    withStamp('a lower classification', 'STAMP_MAC_MISMATCH', jcs.replace('"internal"', '"public"')),
    withStamp('another approval', 'STAMP_MAC_MISMATCH', jcs.replace('"approved"', '"draft"')),
    withStamp('a member put in', 'STAMP_MAC_MISMATCH', jcs.replace('{', '{"a":1,')),
    withStamp(
      'a member of integrity put in',
      'STAMP_MAC_MISMATCH',
      jcs.replace('"integrity":{', '"integrity":{"a":1,'),
    ),
    withStamp(
      'a source asset taken out',
      'STAMP_MAC_MISMATCH',
      jcs.replace(/"source_assets":\[[^\]]*\]/, '"source_assets":[]'),
    ),
    withStamp('another canonicalization', 'STAMP_MAC_MISMATCH', jcs.replace('"bytes"', '"jcs"')),
    withStamp('a MAC with one digit changed', 'STAMP_MAC_MISMATCH', jcs.replace(mac, flippedMac)),
    withStamp(
      'another secret',
      'STAMP_MAC_MISMATCH',
      integrityOf(() => undefined, 9),
    ),
    withStamp("another producer's key id", 'STAMP_MAC_MISMATCH', jcs.replace('reports-2026', 'billing-2026')),
    withStamp('no MAC', 'STAMP_INVALID', jcs.replace(`"mac":"${mac}",`, '')),
    withStamp('an upper-case MAC', 'STAMP_INVALID', jcs.replace(mac, mac.toUpperCase())),
    withStamp(
      'another algorithm',
      'STAMP_INVALID',
      integrityOf((integrity) => (integrity['alg'] = 'none')),
    ),
    withStamp(
      'another version',
      'STAMP_INVALID',
      forge(jcs, (stamp) => (stamp['stamp_version'] = 'v2')),
    ),
    withStamp(
      'an unknown classification',
      'STAMP_INVALID',
      forge(jcs, (stamp) => (stamp['data_classification'] = 'secret')),
    ),
    withStamp(
      'no regulation',
      'STAMP_INVALID',
      forge(jcs, (stamp) => (stamp['regulatory_compliance'] = [])),
    ),
    withStamp(
      'a regulation twice',
      'STAMP_INVALID',
      forge(jcs, (stamp) => (stamp['regulatory_compliance'] = ['SOX', 'SOX'])),
    ),
    withStamp(
      'a status that is no integer',
      'STAMP_INVALID',
      forge(jcs, (stamp) => ((stamp['subject'] as Loose)['status'] = 200.5)),
    ),
    withStamp(
      'a status that is a boolean',
      'STAMP_INVALID',
      forge(jcs, (stamp) => ((stamp['subject'] as Loose)['status'] = true)),
    ),
    withStamp(
      'a trace id of zeros',
      'STAMP_INVALID',
      forge(jcs, (stamp) => ((stamp['data_lineage'] as Loose)['trace_id'] = '0'.repeat(32))),
    ),
    withStamp(
      'a tenant of 513 characters',
      'STAMP_INVALID',
      forge(jcs, (stamp) => ((stamp['subject'] as Loose)['tenant'] = '😀'.repeat(513))),
    ),
    withStamp(
      'an optional member that is null',
      'STAMP_INVALID',
      forge(jcs, (stamp) => ((stamp['data_lineage'] as Loose)['model_version'] = null)),
    ),
    withStamp(
      'a line feed behind a digest',
      'STAMP_INVALID',
      forge(jcs, (stamp) => ((stamp['data_lineage'] as Loose)['input_hash'] = `sha256:${'a'.repeat(64)}\n`)),
    ),
    withStamp(
      'a day that does not exist',
      'STAMP_INVALID',
      forge(jcs, (stamp) => (stamp['timestamp_utc'] = '2026-02-30T00:00:00.000Z')),
    ),
    withStamp(
      'a time without milliseconds',
      'STAMP_INVALID',
      forge(jcs, (stamp) => (stamp['timestamp_utc'] = '2026-11-23T09:30:00Z')),
    ),
    withStamp('white space within', 'STAMP_INVALID', jcs.replace(':', ': ')),
    withStamp('a line feed behind it', 'STAMP_INVALID', `${jcs}\n`),
    withStamp('a byte order mark', 'STAMP_INVALID', `\ufeff${jcs}`),
    withStamp(
      'members in another order',
      'STAMP_INVALID',
      JSON.stringify(Object.fromEntries(Object.entries(JSON.parse(jcs) as Loose).toReversed())),
    ),
    withStamp('a number in another form', 'STAMP_INVALID', jcs.replace('"status":200', '"status":2e2')),
    withStamp('a needless escape', 'STAMP_INVALID', jcs.replace('"approved"', '"\\u0061pproved"')),
    withStamp('a name twice', 'STAMP_INVALID', jcs.replace('{', '{"approval_status":"approved",')),
    withStamp('a name twice, escaped', 'STAMP_INVALID', jcs.replace('{', '{"\\u0061pproval_status":"draft",')),
    withStamp('a lone surrogate', 'STAMP_INVALID', jcs.replace('"sum"', '"\\ud800"')),
    withStamp('nested too deep', 'STAMP_INVALID', jcs.replace('{', `{"a":${'['.repeat(64)}${']'.repeat(64)},`)),
    withStamp('no object', 'STAMP_INVALID', '"stamp"'),
    withStamp('empty', 'STAMP_INVALID', ''),
    invalid('no UTF-8', 'STAMP_INVALID', {
      body: PAYLOAD,
      sidecar_base64: Buffer.concat([Buffer.from(jcs), Buffer.from([0xff])]).toString('base64'),
    }),
    withStamp('an unknown key', 'STAMP_KEY_UNKNOWN', jcs.replace('reports-2026', 'reports-2025')),
    withStamp(
      'a key of another use',
      'STAMP_KEY_UNKNOWN',
      integrityOf((integrity) => (integrity['key_id'] = 'chain-2026'), 5),
    ),
    withStamp(
      "another producer's key",
      'STAMP_KEY_INVALID',
      integrityOf((integrity) => (integrity['key_id'] = 'billing-2026'), 3),
    ),
    withStamp(
      "another tenant's key",
      'STAMP_KEY_INVALID',
      integrityOf((integrity) => (integrity['key_id'] = 'globex-2026'), 4),
    ),
    withStamp(
      'before the key',
      'STAMP_KEY_INVALID',
      forge(jcs, (stamp) => (stamp['timestamp_utc'] = '2025-12-31T23:59:59.999Z')),
    ),
    withStamp(
      'when the key had ended',
      'STAMP_KEY_INVALID',
      forge(jcs, (stamp) => (stamp['timestamp_utc'] = '2027-01-01T00:00:00.000Z')),
    ),
    withStamp(
      'when the key was revoked',
      'STAMP_KEY_INVALID',
      forge(
        jcs,
        (stamp, integrity) => {
          integrity['key_id'] = 'reports-revoked'
          stamp['timestamp_utc'] = '2026-06-01T00:00:00.000Z'
        },
        2,
      ),
    ),
    invalid('a header with another hash', 'STAMP_INVALID', {
      body: PAYLOAD,
      header: formatStampHeader(digestText('x'), jcs),
    }),
    invalid('a header with another hash than the embedded stamp', 'STAMP_INVALID', {
      body: embed(PAYLOAD, jcs),
      header: digestText('x'),
    }),
    invalid('a header with the stamp twice', 'STAMP_INVALID', {
      body: PAYLOAD,
      header: `${formatStampHeader(hash, jcs)}; stamp="e30"`,
    }),
    invalid('a header with padding', 'STAMP_INVALID', {
      body: PAYLOAD,
      header: `${hash}; stamp="${Buffer.from('{"a":1}').toString('base64')}"`,
    }),
    invalid('a header of another form', 'STAMP_INVALID', { body: PAYLOAD, header: hash.toUpperCase() }),
    invalid('a header that is a hash alone', 'STAMP_MISSING', { body: PAYLOAD, header: hash }),
  ]
}

function payloadCases(): StampVector[] {
  const { jcs } = stampOf(PAYLOAD)
  const body = embed(PAYLOAD, jcs)
  const jcsOf = (payload: string) => stampOf(payload, { canonicalization: 'jcs' }).jcs
  const canonical = jcsOf('{"a":1}')
  // What a careless issuer would sign: the digest of what the double prints.
  const lossy = forge(jcs, (_stamp, integrity) => {
    const { digest, length } = jcsPayload(Buffer.from('{"a":9007199254740992}'))
    Object.assign(integrity, {
      canonicalization: 'jcs',
      payload_digest: `sha256:${digest.toString('hex')}`,
      payload_length: length,
    })
  })
  const lengthOff = forge(jcs, (_stamp, integrity) => (integrity['payload_length'] = 1))
  const mismatch = (name: string, changed: string) => invalid(name, 'STAMP_PAYLOAD_MISMATCH', { body: changed })
  return [
    mismatch('a digit changed', body.replace('12.50', '12.51')),
    mismatch('the same number in another form', body.replace('12.50', '12.5')),
    mismatch('white space put in', body.replace('{', '{ ')),
    mismatch('a line feed taken off', body.slice(0, -1)),
    mismatch('a member put in', body.replace('{', '{"x":1,')),
    mismatch("another payload's stamp", embed(PAYLOAD, stampOf('{"a":1}').jcs)),
    mismatch('a length that is not the payload’s', embed(PAYLOAD, lengthOff)),
    invalid('a sidecar of other content', 'STAMP_PAYLOAD_MISMATCH', { body: 'a,b\n', sidecar: stampOf('a,c\n').jcs }),
    invalid('an embedded stamp beside a true sidecar', 'STAMP_PAYLOAD_MISMATCH', {
      body: embed(PAYLOAD, stampOf('{"a":1}').jcs),
      sidecar: jcs,
    }),
    mismatch('jcs: another value', embed('{"a":2}', canonical)),
    mismatch('jcs: a name twice', embed('{"a":1,"a":1}', canonical)),
    mismatch('jcs: a number that does not round-trip', embed('{"a":9007199254740993}', lossy)),
    mismatch('jcs: a number too large', embed('{"a":1e400}', canonical)),
    mismatch('jcs: a number too small', embed('{"a":1e-400}', jcsOf('{"a":0}'))),
    mismatch('jcs: a lone surrogate', embed('{"a":"\\ud800"}', canonical)),
    mismatch('jcs: no JSON within', embed('{"a":[1 2]}', canonical)),
    invalid('jcs: no JSON at all', 'STAMP_PAYLOAD_MISMATCH', { body: 'a', sidecar: canonical }),
  ]
}

function placeCases(): StampVector[] {
  const { jcs } = stampOf('{"a":1}')
  const member = `"_compliance":${jcs}`
  const foreign = (name: string, body: string) => invalid(name, 'STAMP_INVALID', { body })
  const noJson = (name: string, body: string) => invalid(name, 'JSON_INVALID', { body })
  return [
    foreign('twice', `{"a":1,${member},${member}}`),
    foreign('a forged one before it', `{"_compliance":{},"a":1,${member}}`),
    foreign('an escaped one before it', `{"\\u005fcompliance":{},"a":1,${member}}`),
    foreign('an escaped one of upper-case digits before it', `{"\\u005F\\u0063ompliance":{},"a":1,${member}}`),
    foreign('escaped', `{"a":1,"\\u005fcompliance":${jcs}}`),
    foreign('not last', `{${member},"a":1}`),
    foreign('white space behind the comma', `{"a":1, ${member}}`),
    foreign('white space before the colon', `{"a":1,"_compliance" :${jcs}}`),
    foreign('white space behind the colon', `{"a":1,"_compliance": ${jcs}}`),
    foreign('white space before the brace', `{"a":1,${member}\n}`),
    foreign('pretty-printed', JSON.stringify(JSON.parse(`{"a":1,${member}}`), null, 2)),
    foreign('not in canonical form', `{"a":1,"_compliance":${jcs.replace(':', ': ')}}`),
    foreign('a string', '{"a":1,"_compliance":"x"}'),
    foreign('null', '{"a":1,"_compliance":null}'),
    invalid('a foreign one beside a true sidecar', 'STAMP_INVALID', {
      body: '{"_compliance":1}',
      sidecar: stampOf('{"_compliance":1}').jcs,
    }),
    invalid('none', 'STAMP_MISSING', { body: '{"a":1}' }),
    invalid('only deeper', 'STAMP_MISSING', { body: `{"a":{${member}}}` }),
    invalid('only in an array', 'STAMP_MISSING', { body: `[{"a":1,${member}}]` }),
    invalid('none in an empty answer', 'STAMP_MISSING', { body: '' }),
    invalid('behind a byte order mark', 'STAMP_MISSING', { body: `\ufeff{"a":1,${member}}` }),
    noJson('truncated', `{"a":1,${member}`),
    noJson('something behind it', `{"a":1,${member}}}`),
    noJson('two commas', `{"a":1,,${member}}`),
    noJson('no comma', `{"a":1 ${member}}`),
    noJson('brackets that do not match', `{"a":[1},${member}}`),
    noJson('nested too deep', `{"a":${'['.repeat(64)}${']'.repeat(64)},${member}}`),
    noJson('an escape that JSON does not have in a name', `{"\\x5fcompliance":1,"a":1,${member}}`),
    invalid('an overlong underscore in a name', 'JSON_INVALID', {
      body_base64: Buffer.concat([
        Buffer.from('{"'),
        Buffer.from([0xc1, 0x9f]),
        Buffer.from(`compliance":1,"a":1,${member}}`),
      ]).toString('base64'),
    }),
    invalid('UTF-16', 'STAMP_MISSING', {
      body_base64: Buffer.from(`\ufeff{"a":1,${member}}`, 'utf16le').toString('base64'),
    }),
  ]
}

/** Stamps of keys that are derived from a root of the keyring. `CLAIMS` is of 2026-11-23. */
function derivedCases(): StampVector[] {
  const id = (day = '20261123', root = 'root-2026', tenant = 'acme', producer = 'reports%2Fledger-api') =>
    `d1.${root}.${day}.${tenant}.${producer}`
  const of = (keyId: string, claims = CLAIMS) => stampOf(PAYLOAD, { keyId, claims }).jcs
  const at = (timestamp_utc: string) => ({ ...CLAIMS, timestamp_utc })
  const derived = of(id())
  // As the holder of one key would make it: under another key's name.
  const renamed = (from: string, to: string) => derived.replace(`"key_id":"${from}"`, `"key_id":"${to}"`)
  const dayBefore = of(id('20261122'))
  const early = of(id(), at('2026-11-22T23:50:00.000Z'))
  const beforeRevocation = of(id('20261123', 'root%2Erevoked'), at('2026-11-23T08:59:59.999Z'))
  const odd = of(id('20261123', 'root-2026', 'acme', 'z%C3%BCrich%2F%25'), {
    ...CLAIMS,
    data_lineage: { ...CLAIMS.data_lineage, producer_id: 'zürich/%' },
  })
  const signedBy = (keyId: string) => (_stamp: Loose, integrity: Loose) => (integrity['key_id'] = keyId)
  const secretOf = (keyId: string): Buffer => KEYS.stampKey(keyId)?.secret.export() ?? Buffer.alloc(0)
  const body = (jcs: string) => ({ body: embed(PAYLOAD, jcs) })
  const other = id('20261123', 'root-2026', 'acme', 'billing%2Fapi')
  return [
    valid('a derived key', derived, body(derived)),
    valid('the key of the day before', dayBefore, body(dayBefore)),
    valid('ten minutes before its day', early, body(early)),
    valid('a root revoked later', beforeRevocation, body(beforeRevocation)),
    valid('names that have to be encoded', odd, body(odd)),
    invalid('the secret of another day', 'STAMP_MAC_MISMATCH', body(renamed(id(), id('20261122')))),
    invalid("another producer's key", 'STAMP_KEY_INVALID', body(forge(derived, signedBy(other), secretOf(other)))),
    invalid("another producer's secret", 'STAMP_MAC_MISMATCH', body(forge(derived, () => undefined, secretOf(other)))),
    invalid(
      'two days after its day',
      'STAMP_KEY_INVALID',
      body(forgeAt(derived, '2026-11-25T00:00:00.000Z', secretOf(id()))),
    ),
    invalid('before its day', 'STAMP_KEY_INVALID', body(forgeAt(derived, '2026-11-22T23:49:59.999Z', secretOf(id())))),
    invalid(
      'a root that was revoked',
      'STAMP_KEY_INVALID',
      body(forgeRevoked(derived, id('20261123', 'root%2Erevoked'), secretOf)),
    ),
    ...[
      id('20261123', 'root-2025'),
      id('20261131'),
      id('2026112'),
      id('20261123', 'root.revoked'),
      id('20261123', 'root-2026', 'acme', 'reports/ledger-api'),
      id('20261123', 'root-2026', 'acme', 'reports%2fledger-api'),
      id('20261123', 'root-2026', '%61cme'),
      id('20261123', 'root-2026', ''),
      id().replace('d1.', 'd2.'),
      `${id()}.x`,
    ].map((keyId) => invalid(`no key: ${keyId}`, 'STAMP_KEY_UNKNOWN', body(renamed(id(), keyId)))),
  ]
}

function forgeAt(jcs: string, timestamp: string, secret: Buffer): string {
  return forge(jcs, (stamp) => (stamp['timestamp_utc'] = timestamp), secret)
}

function forgeRevoked(jcs: string, keyId: string, secretOf: (keyId: string) => Buffer): string {
  return forge(jcs, (_stamp, integrity) => (integrity['key_id'] = keyId), secretOf(keyId))
}

/** The vectors as they are in the tree: file names and texts. */
export function stampVectors(): Map<string, string> {
  const files: Record<string, unknown> = {
    'keyring.json': KEYRING,
    'valid.json': { about: 'Stamps that verify, in every place and canonicalization.', cases: validCases() },
    'subject.json': { about: 'An intact stamp, and what is expected of the answer.', cases: subjectCases() },
    'derived.json': { about: 'Stamps of keys that are derived from a root.', cases: derivedCases() },
    'stamp.json': {
      about: 'Stamps and headers that were changed, forged, or made with a key that may not.',
      cases: stampCases(),
    },
    'payload.json': { about: 'Content that is not what was stamped.', cases: payloadCases() },
    'place.json': {
      about: 'Content whose `_compliance` is not one that Signet embeds, or that has none.',
      cases: placeCases(),
    },
  }
  return new Map(Object.entries(files).map(([name, value]) => [name, `${JSON.stringify(value, null, 2)}\n`]))
}

// `node tools/generate-stamp-vectors.ts` writes them.
if (import.meta.main) {
  await mkdir(VECTORS_FOLDER, { recursive: true })
  for (const [name, text] of stampVectors()) await writeFile(`${VECTORS_FOLDER}${name}`, text)
}
