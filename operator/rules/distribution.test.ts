import { describe, expect, it } from 'vitest'
import { SignetError } from '#core/error/signet-error.ts'
import type { Publication } from '#operator/bundles/publisher.ts'
import type { ProxyStatus } from '#operator/bundles/status-report.ts'
import { createDistributions } from './distribution.ts'
import { createPublications } from './publications.ts'
import { createProxies, keepPod, SETTLE_MS } from './proxies.ts'
import { ruleView } from './rule.fixture.ts'

function bench() {
  let nowMs = 0
  const reports = new Map<string, ProxyStatus[]>()
  const publications = createPublications()
  const proxies = createProxies({ reports: (namespace) => reports.get(namespace) ?? [], monotonicMs: () => nowMs })
  const namespaces = new Set(['signet-system', 'payments', 'ledgers'])
  const distributions = createDistributions({
    publications,
    proxies,
    namespaces: () => namespaces,
    operatorNamespace: 'signet-system',
  })
  return {
    publications,
    proxies,
    distributions,
    publish: (
      namespace: string,
      sequence: number,
      serials: { root: number; own: number },
      rest: Partial<Publication> = {},
    ): void => {
      publications.record(
        namespace,
        { outcome: 'published', revision: `${sequence}-aaaaaaaaaaaaaaaa`, sequence, problems: [], ...rest },
        serials,
      )
    },
    run: (namespace: string, ...uids: string[]): void => {
      for (const uid of uids) proxies.apply({ key: uid, after: { metadata: { name: uid, namespace, uid } } })
    },
    end: (namespace: string, uid: string): void => {
      proxies.apply({ key: uid, before: { metadata: { name: uid, namespace, uid } } })
    },
    report: (namespace: string, uid: string, sequence: number): void => {
      const others = (reports.get(namespace) ?? []).filter((status) => status.uid !== uid)
      const revision = `${sequence}-aaaaaaaaaaaaaaaa`
      reports.set(namespace, [
        ...others,
        { namespace, pod: uid, uid, revision, code: null, message: null, reportedMs: nowMs },
      ])
    },
    wait: (ms: number): void => {
      nowMs += ms
    },
    of: (serial: number, rule = ruleView('r'), failures: ReadonlyMap<string, string> = new Map()) =>
      distributions.view(
        rule.metadata.namespace === 'signet-system' ? 'root' : `namespace/${rule.metadata.namespace}`,
        failures,
      )(rule, serial),
  }
}

describe('how far a rule has come', () => {
  it('counts running proxies that have the first revision with it, or a later one', () => {
    const { publish, run, report, of } = bench()
    publish('payments', 10, { root: 1, own: 1 })
    publish('payments', 11, { root: 1, own: 2 })
    publish('payments', 12, { root: 1, own: 3 })
    run('payments', 'a', 'b', 'c')
    report('payments', 'a', 10)
    report('payments', 'b', 11)
    report('payments', 'c', 12)
    expect(of(1)).toMatchObject({ expected: 3, current: 3, revision: '10-aaaaaaaaaaaaaaaa' })
    expect(of(2)).toMatchObject({ expected: 3, current: 2, revision: '11-aaaaaaaaaaaaaaaa' })
    expect(of(3)).toMatchObject({ expected: 3, current: 1 })
    expect(of(4)).toEqual({ state: 'pending' })
  })

  it('does not miss a pod that has only just started, but one that stays silent', () => {
    const { publish, run, report, wait, of, end } = bench()
    publish('payments', 10, { root: 1, own: 1 })
    run('payments', 'a')
    report('payments', 'a', 10)
    run('payments', 'silent')
    expect(of(1)).toMatchObject({ expected: 1, current: 1, settled: false })
    wait(SETTLE_MS)
    expect(of(1)).toMatchObject({ expected: 2, current: 1, settled: true })
    end('payments', 'silent')
    expect(of(1)).toMatchObject({ expected: 1, current: 1 })
  })

  it('does not count what no running pod says', () => {
    const { publish, report, of } = bench()
    publish('payments', 10, { root: 1, own: 1 })
    report('payments', 'gone', 10)
    expect(of(1)).toMatchObject({ expected: 0, current: 0 })
  })

  it('of a root rule counts all namespaces, or those that it matches', () => {
    const { publish, run, report, of } = bench()
    for (const namespace of ['signet-system', 'payments', 'ledgers']) publish(namespace, 10, { root: 1, own: 0 })
    run('payments', 'a')
    run('ledgers', 'b')
    report('payments', 'a', 10)
    report('ledgers', 'b', 9)
    const everywhere = ruleView('r', { namespace: 'signet-system' })
    const there = ruleView('r', { namespace: 'signet-system', spec: { match: { namespaces: ['payments'] } } })
    expect(of(1, everywhere)).toMatchObject({ expected: 2, current: 1 })
    expect(of(1, there)).toMatchObject({ expected: 1, current: 1 })
  })

  it('of a root rule does not wait for namespaces without proxies', () => {
    const { publish, of } = bench()
    publish('signet-system', 10, { root: 1, own: 0 })
    expect(of(1, ruleView('r', { namespace: 'signet-system' }))).toMatchObject({ state: 'counted', expected: 0 })
  })

  it('says why a module was not let out, and that a rule of the other module is not concerned', () => {
    const { publish, of } = bench()
    publish('signet-system', 10, { root: 1, own: 0 })
    publish('payments', 10, { root: 1, own: 1 })
    const error = new SignetError('BUNDLE_INVALID', 'decisions differ')
    publish('payments', 11, { root: 2, own: 2 }, { problems: [{ part: 'namespace', error }] })
    expect(of(2)).toEqual({
      state: 'refused',
      reason: 'ActivationRefused',
      message: 'Namespace payments: decisions differ',
    })
    // What was in force before still is.
    expect(of(1)).toMatchObject({ state: 'counted' })
  })

  it('says the same of the root module', () => {
    const { publish, of } = bench()
    const rule = ruleView('r', { namespace: 'signet-system' })
    publish('signet-system', 10, { root: 1, own: 0 })
    const error = new SignetError('BUNDLE_INVALID', 'decisions differ')
    publish('signet-system', 11, { root: 2, own: 0 }, { problems: [{ part: 'root', error }] })
    expect(of(2, rule)).toMatchObject({ state: 'refused', message: 'Namespace signet-system: decisions differ' })
    expect(of(1, rule)).toMatchObject({ state: 'counted' })
  })

  it('says that publishing failed, and that a rollback is in force', () => {
    const { publish, of } = bench()
    expect(of(1)).toEqual({ state: 'pending' })
    expect(of(1, ruleView('r'), new Map([['payments', 'no API server']]))).toMatchObject({
      state: 'refused',
      reason: 'PublicationFailed',
    })
    publish('payments', 10, { root: 1, own: 1 })
    publish('payments', 10, { root: 1, own: 2 }, { outcome: 'held' })
    expect(of(2)).toMatchObject({ state: 'held' })
    publish('payments', 13, { root: 1, own: 2 })
    expect(of(2)).toMatchObject({ state: 'counted', revision: '13-aaaaaaaaaaaaaaaa' })
  })

  it('keeps a bounded history', () => {
    const { publish, of } = bench()
    for (let serial = 1; serial <= 500; serial++) publish('payments', serial, { root: 1, own: serial })
    expect(of(500)).toMatchObject({ revision: '500-aaaaaaaaaaaaaaaa' })
    expect(of(1)).toMatchObject({ revision: '451-aaaaaaaaaaaaaaaa' })
  })
})

describe('of pods, kept are', () => {
  const cases = [
    { name: 'injected ones', metadata: { annotations: { 'signet.dev/injected': 'x' } }, want: true },
    { name: 'not others', metadata: {}, want: false },
    {
      name: 'not those on their way out',
      metadata: { annotations: { 'signet.dev/injected': 'x' }, deletionTimestamp: 'now' },
      want: false,
    },
  ]
  it.each(cases)('$name', ({ metadata, want }) => {
    const kept = keepPod({ metadata: { name: 'a', namespace: 'n', uid: 'u', resourceVersion: '1', ...metadata } })
    expect(kept !== null).toBe(want)
    if (kept !== null) expect(kept.metadata).toEqual({ name: 'a', namespace: 'n', uid: 'u', resourceVersion: '1' })
  })
})
