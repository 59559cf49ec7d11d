import { describe, expect, test } from 'vitest'
import type { IncomingMessage } from 'node:http'
import { prefersHtml } from '../egress/refusal.ts'
import { originForm, pathOf } from '../exchange/context.ts'
import { declaredLineage } from '../lineage.ts'
import { ANONYMOUS, callerOf, parsePeers } from './caller.ts'
import { charsetOf, isJson } from './media-type.ts'
import { mediaTypeOf } from '#core/stamp/subject.ts'

test.each([
  { value: undefined, want: '', wantJson: false },
  { value: 'Application/JSON; charset=utf-8', want: 'application/json', wantJson: true },
  { value: 'application/problem+json', want: 'application/problem+json', wantJson: true },
  { value: 'text/csv', want: 'text/csv', wantJson: false },
  { value: 'json', want: '', wantJson: false },
  { value: '*/*', want: '', wantJson: false },
  { value: 'unknown/unknown', want: '', wantJson: false },
  { value: 'application/json, text/html', want: '', wantJson: false },
])('media type of $value', ({ value, want, wantJson }) => {
  expect(mediaTypeOf(value)).toBe(want)
  expect(isJson(mediaTypeOf(value))).toBe(wantJson)
})

test.each([
  { url: '/a?b', want: '/a?b', wantPath: '/a' },
  { url: 'http://other.example/a?b', want: '/a?b', wantPath: '/a' },
  { url: 'http://other.example', want: '/', wantPath: '/' },
  { url: 'http://other.example?x', want: '/?x', wantPath: '/' },
  { url: '*', want: '*', wantPath: '*' },
])('origin form of $url', ({ url, want, wantPath }) => {
  expect(originForm(url)).toBe(want)
  expect(pathOf(want)).toBe(wantPath)
})

test.each([
  { accept: undefined, want: false },
  { accept: '*/*', want: false },
  { accept: 'application/json', want: false },
  { accept: 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', want: true },
  { accept: 'application/json, text/html;q=0.5', want: false },
  { accept: 'text/html;q=0', want: false },
])('HTML for $accept: $want', ({ accept, want }) => {
  expect(prefersHtml(accept)).toBe(want)
})

describe('callerOf', () => {
  const request = (remoteAddress: string, headers: Record<string, string>) =>
    ({ socket: { remoteAddress }, headers }) as unknown as IncomingMessage
  const headers = {
    'signet-caller-subject': 'ann',
    'signet-caller-roles': 'auditor, lead',
    'signet-caller-region': 'eu',
  }

  test.each([
    { name: 'nobody trusted', peers: '', address: '10.0.0.1', want: ANONYMOUS },
    { name: 'another address', peers: '10.0.0.0/8', address: '192.0.2.1', want: ANONYMOUS },
    {
      name: 'a trusted ingress',
      peers: '10.0.0.0/8',
      address: '10.1.2.3',
      want: { subject: 'ann', roles: ['auditor', 'lead'], region: 'eu' },
    },
    {
      name: 'over IPv6',
      peers: '::1',
      address: '::1',
      want: { subject: 'ann', roles: ['auditor', 'lead'], region: 'eu' },
    },
  ])('$name', ({ peers, address, want }) => {
    expect(callerOf(request(address, headers), parsePeers(peers))).toEqual(want)
  })

  test.each(['10.0.0.0/33', 'example.com', '::1/129'])('refuses the peer %s', (peer) => {
    expect(() => parsePeers(peer)).toThrow(/SIGNET_TRUSTED_INGRESS/)
  })
})

describe('declaredLineage', () => {
  const NOW = Date.parse('2026-11-25T00:00:00Z')
  test.each([
    { value: '', want: '(empty)' },
    { value: 'restricted\xa0', want: 'restricted?' },
    { value: 'x'.repeat(600), want: 'x'.repeat(128) },
    { value: 'public', want: 'public' },
  ])('a classification that is there is judged, whatever it is: $want', ({ value, want }) => {
    expect(declaredLineage({ 'signet-data-classification': value }, NOW).classification).toBe(want)
  })

  test.each([
    { value: '2026-11-25T00:04:59.000Z', want: '2026-11-25T00:04:59.000Z' },
    { value: '2026-11-25T00:05:01.000Z', want: undefined },
    { value: '2026-99-25T00:05:01.000Z', want: undefined },
  ])('a timestamp too far ahead is left out: $value', ({ value, want }) => {
    const lineage = declaredLineage({ 'signet-lineage-timestamp-utc': value }, NOW)
    expect(lineage.timestampUtc).toBe(want)
    expect(lineage.ignored).toHaveLength(want === undefined ? 1 : 0)
  })

  test('an asset id past its length is left out', () => {
    const asset = `urn:${'x'.repeat(2100)}@sha256:${'a'.repeat(64)}`
    expect(declaredLineage({ 'signet-lineage-source-assets': asset }, NOW).sourceAssets).toEqual([])
  })

  const digest = `sha256:${'a'.repeat(64)}`
  test('takes what fits, and names what does not', () => {
    const lineage = declaredLineage(
      {
        'signet-lineage-source-assets': `urn:warehouse:t@${digest}, urn:mutable:latest`,
        'signet-lineage-transformations': 'dedupe, sum',
        'signet-lineage-model-version': 'm-1',
        'signet-lineage-input-hash': 'sha256:short',
        'signet-data-classification': 'topsecret',
      },
      NOW,
    )
    expect(lineage).toMatchObject({
      sourceAssets: [`urn:warehouse:t@${digest}`],
      transformations: ['dedupe', 'sum'],
      modelVersion: 'm-1',
      inputHash: undefined,
      classification: 'topsecret',
      ignored: ['signet-lineage-source-assets', 'signet-lineage-input-hash'],
    })
  })
})

test.each([
  { value: undefined, want: undefined },
  { value: 'text/csv', want: undefined },
  { value: 'text/csv; charset=UTF-8', want: 'utf-8' },
  { value: 'text/csv; header=present; charset = "utf-7"', want: 'utf-7' },
])('charset of $value', ({ value, want }) => {
  expect(charsetOf(value)).toBe(want)
})
