import { isDeepStrictEqual } from 'node:util'
import { gunzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { KubernetesClient } from '#operator/kubernetes/client.ts'
import { startApiServer, type TestApiServer } from '#test/support/api-server.ts'
import {
  administrator,
  condition,
  eventually,
  followRules,
  OPERATOR_NAMESPACE,
  startOperatorProcess,
  type OperatorProcess,
} from '#test/support/operator-process.ts'

const GOOD = { conditions: { all: [{ fact: 'response.status', operator: 'lessThan', value: 500 }] } }
const BAD = { rego: 'package bad\n\ndecision := {"evaluated": true, "violations": [}\n' }

let server: TestApiServer
let client: KubernetesClient
let operator: OperatorProcess
let rules: ReturnType<typeof followRules>

beforeAll(async () => {
  server = await startApiServer({ crds: true })
  client = administrator(server)
  for (const namespace of [OPERATOR_NAMESPACE, 'payments', 'ledgers', 'crowd']) await server.createNamespace(namespace)
  rules = followRules(client)
  operator = await startOperatorProcess(server, 'operator')
  await operator.listening
  await eventually('the operator leads', async () => (await operator.metric('signet_operator_leader')) === 1)
})
afterAll(async () => {
  await operator?.kill()
  await rules?.stop()
  await client?.close()
  await server?.stop()
})

async function apply(namespace: string, name: string, spec: object): Promise<void> {
  const rule = {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'ComplianceRule',
    metadata: { name, namespace },
    spec: { description: `Rule ${name}`, severity: 'low', ...spec },
  }
  await server.kubectl(['apply', '-f', '-'], JSON.stringify(rule))
}

async function revision(namespace: string): Promise<string | undefined> {
  const path = `/api/v1/namespaces/${OPERATOR_NAMESPACE}/configmaps/signet-bundles-${namespace}`
  const answer = await server.request('GET', path)
  if (answer.status === 404) return undefined
  return answer.json<{ metadata: { annotations?: Record<string, string> } }>().metadata.annotations?.[
    'signet.dev/revision'
  ]
}

function sequenceOf(text: string | undefined): number {
  return Number(text?.split('-')[0])
}

describe('a rule that is applied', () => {
  it('is accepted, compiled and published, and its status says in which revision', async () => {
    await apply('payments', 'good', GOOD)
    const rule = await eventually('the rule is distributed', () => {
      const latest = rules.latest('payments/good')
      return condition(latest, 'Distributed') === 'True NoProxies' ? latest : undefined
    })
    expect(condition(rule, 'Accepted')).toBe('True Valid')
    expect(condition(rule, 'Compiled')).toBe('True Compiled')
    expect(rule.status?.observedGeneration).toBe(1)
    expect(rule.status?.revision).toBe(await revision('payments'))
    expect(rule.status?.distribution).toEqual({ expected: 0, current: 0 })
    expect(rule.status?.errors).toBeUndefined()
  })

  it('that does not compile says where, in conditions, errors and an event; others are not held up', async () => {
    await apply('payments', 'bad', BAD)
    await apply('payments', 'beside', GOOD)
    const rule = await eventually('the fault is told', () => {
      const latest = rules.latest('payments/bad')
      return condition(latest, 'Compiled') === 'False DoesNotCompile' ? latest : undefined
    })
    expect(condition(rule, 'Accepted')).toBe('True Valid')
    expect(condition(rule, 'Distributed')).toBe('False NotCompiled')
    expect(rule.status?.errors?.[0]).toMatchObject({ line: 3, column: 48 })
    expect(rule.status?.revision).toBeUndefined()
    await eventually(
      'the other is distributed',
      () => condition(rules.latest('payments/beside'), 'Distributed') === 'True NoProxies',
    )
    const events = await eventually('an event', async () => {
      const text = await server.kubectl(['-n', 'payments', 'get', 'events.events.k8s.io', '-o', 'json'])
      const { items } = JSON.parse(text) as { items: { reason: string; note: string; regarding: { name: string } }[] }
      return items.filter(({ regarding }) => regarding.name === 'bad').length > 0 ? items : undefined
    })
    expect(events.find(({ regarding }) => regarding.name === 'bad')).toMatchObject({
      reason: 'DoesNotCompile',
      note: expect.stringContaining('3:48'),
    })
  })

  it('and mended is distributed; the errors go', async () => {
    await apply('payments', 'bad', { ...GOOD, rego: null })
    const rule = await eventually('the rule is distributed', () => {
      const latest = rules.latest('payments/bad')
      return condition(latest, 'Distributed') === 'True NoProxies' ? latest : undefined
    })
    expect(condition(rule, 'Compiled')).toBe('True Compiled')
    expect(rule.status?.errors).toBeUndefined()
  })

  it('whose edit breaks it stays in force as it was', async () => {
    await apply('ledgers', 'kept', GOOD)
    await eventually(
      'the rule is distributed',
      () => condition(rules.latest('ledgers/kept'), 'Distributed') === 'True NoProxies',
    )
    const before = await revision('ledgers')
    await apply('ledgers', 'kept', { ...BAD, conditions: null })
    const rule = await eventually('the fault is told', () => {
      const latest = rules.latest('ledgers/kept')
      return condition(latest, 'Compiled') === 'False DoesNotCompile' ? latest : undefined
    })
    expect(rule.status?.conditions?.[1]?.message).toContain('generation 1 stays in force')
    await new Promise((resolve) => setTimeout(resolve, 1_000))
    // What decides is the same: there is no new revision.
    expect(await revision('ledgers')).toBe(before)
  })

  it('of another stage is checked, and says that proxies do not judge by it', async () => {
    await apply('payments', 'scanned', {
      stage: 'scan',
      conditions: { all: [{ fact: 'organisation.mfa', operator: 'equal', value: true }] },
    })
    const rule = await eventually('it has a status', () => {
      const latest = rules.latest('payments/scanned')
      return condition(latest, 'Distributed') === 'False NotDistributedToProxies' ? latest : undefined
    })
    expect(condition(rule, 'Compiled')).toBe('True Compiled')
  })

  it('and deleted leaves the bundle', async () => {
    const before = await revision('payments')
    await server.kubectl(['-n', 'payments', 'delete', 'compliancerule', 'beside'])
    await eventually('a new revision', async () => sequenceOf(await revision('payments')) > sequenceOf(before))
    await server.kubectl(['-n', 'ledgers', 'delete', 'compliancerule', '--all'])
    await eventually('a revision without rules of its own', async () => {
      const path = `/api/v1/namespaces/${OPERATOR_NAMESPACE}/configmaps/signet-bundles-ledgers`
      const { data } = (await server.request('GET', path)).json<{ data: { 'index.json': string } }>()
      const index = JSON.parse(data['index.json']) as { revisions: { modules: string[] }[] }
      return index.revisions[0]?.modules.length === 1
    })
  })
})

describe('root rules', () => {
  it('are in the bundle of every namespace that has one', async () => {
    const before = sequenceOf(await revision('payments'))
    await apply(OPERATOR_NAMESPACE, 'everywhere', GOOD)
    await eventually('published', async () => sequenceOf(await revision('payments')) > before)
    const rule = await eventually('distributed', () => {
      const latest = rules.latest(`${OPERATOR_NAMESPACE}/everywhere`)
      return condition(latest, 'Distributed') === 'True NoProxies' ? latest : undefined
    })
    expect(rule.status?.revision).toBe(await revision(OPERATOR_NAMESPACE))
  })

  it('a namespace that wants proxies gets a bundle without having rules', async () => {
    await server.createNamespace('newcomer', { 'signet.dev/inject': 'enabled' })
    await eventually('a bundle', async () => await revision('newcomer'))
    await server.kubectl(['delete', 'namespace', 'newcomer', '--wait=false'])
  })
})

describe('what rules are applied to', () => {
  const approval = {
    id: 'rel-1',
    resource: '/reports/{id}',
    version: '1',
    channel: 'external',
    approved_by: 'bob',
    expires_at: '2099-01-01T00:00:00Z',
  }
  const policyData = async (namespace: string, name: string, tenant: string, approvals: object[]): Promise<void> => {
    const spec = { tenant, approvals }
    const object = { apiVersion: 'signet.dev/v1alpha1', kind: 'PolicyData', metadata: { name, namespace }, spec }
    await server.kubectl(['apply', '-f', '-'], JSON.stringify(object))
  }
  const configMap = async (name: string) =>
    (await server.request('GET', `/api/v1/namespaces/${OPERATOR_NAMESPACE}/configmaps/${name}`)).json<{
      data: Record<string, string>
      binaryData: Record<string, string>
    }>()
  /** `data.policy` of the bundle in force. */
  async function policyOf(namespace: string): Promise<unknown> {
    const { data } = await configMap(`signet-bundles-${namespace}`)
    const { revisions } = JSON.parse(data['index.json']!) as { revisions: { policy: string }[] }
    const { binaryData } = await configMap(`signet-bundle-blob-${revisions[0]!.policy}-0`)
    return JSON.parse(gunzipSync(Buffer.from(binaryData['content']!, 'base64')).toString())
  }

  it('is in the bundles of the namespaces whose pods may be the tenant, as long as it is there', async () => {
    await apply('payments', 'applied', GOOD)
    await apply('ledgers', 'applied', GOOD)
    await eventually('bundles', async () => (await revision('payments')) && (await revision('ledgers')))
    await policyData(OPERATOR_NAMESPACE, 'one', 'payments', [approval])
    // Of others' namespaces it counts for nothing.
    await policyData('ledgers', 'own', 'ledgers', [approval])
    const wanted = { tenants: { payments: { approvals: [approval] } } }
    await eventually('it is in the bundle', async () => isDeepStrictEqual(await policyOf('payments'), wanted))
    expect(await policyOf('ledgers')).toEqual({})
    await server.kubectl(['delete', 'policydata', 'one', '--namespace', OPERATOR_NAMESPACE])
    await eventually('it is gone', async () => isDeepStrictEqual(await policyOf('payments'), {}))
  }, 120_000)

  it('is refused by the API server where it approves anything', async () => {
    await expect(
      policyData(OPERATOR_NAMESPACE, 'any', 'payments', [{ ...approval, version: undefined }]),
    ).rejects.toThrow(/names a version or a digest/)
  })
})

describe('the status', () => {
  it('is written on transition only: not when other rules change, not by resync, not while nothing changes', async () => {
    await apply('payments', 'quiet', GOOD)
    await eventually('distributed', () => condition(rules.latest('payments/quiet'), 'Distributed') === 'True NoProxies')
    const written = rules.versions('payments/quiet').length
    const before = rules.latest('payments/quiet')
    const start = sequenceOf(await revision('payments'))
    for (let change = 0; change < 5; change++) {
      await apply('payments', 'noisy', {
        conditions: { all: [{ fact: 'response.status', operator: 'lessThan', value: 501 + change }] },
      })
      await eventually('published', async () => sequenceOf(await revision('payments')) > start + change)
    }
    await new Promise((resolve) => setTimeout(resolve, 12_000))
    expect(rules.versions('payments/quiet')).toHaveLength(written)
    expect(rules.latest('payments/quiet')?.metadata.resourceVersion).toBe(before?.metadata.resourceVersion)
  })

  it('is written at most once in 10 s for one object, and the last word is right', async () => {
    const writes: number[] = []
    let seen = rules.versions('payments/flapping').length
    const counting = setInterval(() => {
      const versions = rules.versions('payments/flapping')
      for (const version of versions.slice(seen)) {
        if (version.status !== undefined && version.status.observedGeneration === version.metadata.generation)
          writes.push(performance.now())
      }
      seen = versions.length
    }, 20)
    for (let change = 0; change < 6; change++) {
      await apply('payments', 'flapping', change % 2 === 0 ? { ...BAD, conditions: null } : { ...GOOD, rego: null })
      await new Promise((resolve) => setTimeout(resolve, 1_200))
    }
    // The namespace may have used up its ten quick changes (operator/rules/pace.ts): the next compilation then waits for half a minute.
    await eventually(
      'the last word',
      () => condition(rules.latest('payments/flapping'), 'Compiled') === 'True Compiled',
      75_000,
    )
    await eventually(
      'and how far it came',
      () => condition(rules.latest('payments/flapping'), 'Distributed') === 'True NoProxies',
      75_000,
    )
    clearInterval(counting)
    const gaps = writes.slice(1).map((at, index) => at - writes[index]!)
    expect(writes.length).toBeLessThanOrEqual(4)
    for (const gap of gaps) expect(gap).toBeGreaterThan(9_500)
  }, 180_000)

  it('that somebody else overwrote is put right', async () => {
    await apply('payments', 'edited', GOOD)
    await eventually(
      'distributed',
      () => condition(rules.latest('payments/edited'), 'Distributed') === 'True NoProxies',
    )
    const patch = JSON.stringify({ status: { conditions: [], revision: 'forged' } })
    // Our own last write is trusted for 30 s: the cache may lag behind it.
    await server.kubectl([
      '-n',
      'payments',
      'patch',
      'compliancerule',
      'edited',
      '--subresource=status',
      '--type=merge',
      '-p',
      patch,
    ])
    await eventually(
      'put right',
      () => condition(rules.latest('payments/edited'), 'Distributed') === 'True NoProxies',
      90_000,
    )
    expect(rules.latest('payments/edited')?.status?.revision).not.toBe('forged')
  })
})

describe('a proxy that should have the rule', () => {
  it('counts once it runs, and as current once it reports the revision', async () => {
    await apply('crowd', 'watched', GOOD)
    await eventually('published', async () => await revision('crowd'))
    const token = await server.createPodToken({
      namespace: 'crowd',
      serviceAccount: 'default',
      pod: 'web',
      audience: 'signet-bundles',
    })
    await server.kubectl(['-n', 'crowd', 'annotate', 'pod', 'web', 'signet.dev/injected=0123456789abcdef'])
    await server.request(
      'PATCH',
      '/api/v1/namespaces/crowd/pods/web/status',
      { status: { phase: 'Running' } },
      { contentType: 'application/merge-patch+json' },
    )
    const { bundles } = await operator.listening
    const report = async (active: string): Promise<void> => {
      const body = { labels: { id: 'web' }, bundles: { signet: { active_revision: active } } }
      const args = [
        '-sk',
        '-o',
        '/dev/null',
        '-w',
        '%{http_code}',
        '-H',
        `Authorization: Bearer ${token}`,
        '-H',
        'Content-Type: application/json',
      ]
      const { execFile } = await import('node:child_process')
      const code = await new Promise<string>((resolve, reject) => {
        execFile(
          'curl',
          [...args, '-d', JSON.stringify(body), `https://${bundles}/v1/status/namespace/crowd`],
          (error, stdout) => (error === null ? resolve(stdout) : reject(error)),
        )
      })
      expect(code).toMatch(/^2/)
    }
    const first = (await revision('crowd')) ?? ''
    await report(first)
    const distributed = await eventually('1 of 1', () => {
      const latest = rules.latest('crowd/watched')
      return condition(latest, 'Distributed') === 'True AllProxies' ? latest : undefined
    })
    expect(distributed.status?.distribution).toEqual({ expected: 1, current: 1 })

    // Another generation: the proxy has the former one until it says otherwise.
    await apply('crowd', 'watched', {
      conditions: { all: [{ fact: 'response.status', operator: 'lessThan', value: 400 }] },
    })
    const lagging = await eventually('0 of 1', () => {
      const latest = rules.latest('crowd/watched')
      return condition(latest, 'Distributed') === 'False InProgress' ? latest : undefined
    })
    expect(lagging.status?.distribution).toEqual({ expected: 1, current: 0 })
    await report((await revision('crowd')) ?? '')
    await eventually(
      '1 of 1 again',
      () => condition(rules.latest('crowd/watched'), 'Distributed') === 'True AllProxies',
    )

    // Others' changes do not make it undistributed, though the proxy is behind for a moment.
    const written = rules.versions('crowd/watched').length
    await apply('crowd', 'other', GOOD)
    await eventually(
      'the other waits',
      () => condition(rules.latest('crowd/other'), 'Distributed') === 'False InProgress',
    )
    expect(rules.versions('crowd/watched')).toHaveLength(written)
  })
})

describe('a retention policy', () => {
  const policy = (name: string, spec: object, namespace = OPERATOR_NAMESPACE): string =>
    JSON.stringify({ apiVersion: 'signet.dev/v1alpha1', kind: 'RetentionPolicy', metadata: { name, namespace }, spec })
  const conditionsOf = async (name: string, namespace = OPERATOR_NAMESPACE): Promise<Record<string, string>> => {
    const path = `/apis/signet.dev/v1alpha1/namespaces/${namespace}/retentionpolicies/${name}`
    const { status } = (await server.request('GET', path)).json<{
      status?: { conditions?: { type: string; status: string; reason: string }[] }
    }>()
    return Object.fromEntries(
      (status?.conditions ?? []).map(({ type, status, reason }) => [type, `${status} ${reason}`]),
    )
  }

  it('is accepted, compared with the others and published for the ledger', async () => {
    await server.kubectl(['apply', '-f', '-'], policy('base', { hot: '90d', archive: '7y' }))
    await server.kubectl(['apply', '-f', '-'], policy('held', { hot: '30d', archive: '1y', purge: { mode: 'never' } }))
    await server.kubectl(['apply', '-f', '-'], policy('stray', { hot: '1d', archive: '1d' }, 'payments'))
    await eventually('judged', async () => (await conditionsOf('base'))['Overlapping'] === 'True Conflict')
    expect(await conditionsOf('held')).toEqual({
      Accepted: 'True Valid',
      Overlapping: 'True Conflict',
      Published: 'True Published',
    })
    expect(await conditionsOf('stray', 'payments')).toEqual({
      Accepted: 'False WrongNamespace',
      Published: 'False NotAccepted',
    })
    const path = `/api/v1/namespaces/${OPERATOR_NAMESPACE}/configmaps/signet-retention-policies`
    const { data } = (await server.request('GET', path)).json<{ data: { 'policies.json': string } }>()
    const published = JSON.parse(data['policies.json']) as {
      version: number
      policies: { name: string; hot_days: number; archive_days: number }[]
    }
    expect(published.version).toBe(1)
    expect(published.policies.map(({ name, hot_days, archive_days }) => [name, hot_days, archive_days])).toEqual([
      ['base', 90, 2_562],
      ['held', 30, 366],
    ])
  })
})
