import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { WireAnswer } from '#test/support/kubernetes/wire.ts'
import { startNode, type TestNode } from '#test/support/node.ts'
import { ensureImages } from '#tools/kubernetes/images.ts'
import { runTool } from '#tools/kubernetes/run-tool.ts'
import {
  AUDITOR,
  clusterIp,
  GOVERNOR,
  installPlatform,
  listPods,
  readEnds,
  readSecret,
  SYSTEM,
  waitForDeployment,
} from './platform.ts'
import { apply, readLeader, readRule, waitForDistribution } from './rules.ts'
import { ADMIN_PORT, APP, APP_PORT, application, draftRule, job, NAMESPACE, REPLICAS } from './workload.ts'

const CLI = path.resolve(import.meta.dirname, '../../../cli/main.ts')

let node: TestNode
let folder: string
let service: string
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'signet-e2e-kubernetes-'))
  node = await startNode({ images: await ensureImages() })
  await installPlatform(node)
  await node.createNamespace(NAMESPACE, { 'signet.dev/required': 'true' })
  await apply(node, application())
  await waitForDeployment(node, NAMESPACE, APP)
  service = await clusterIp(node, NAMESPACE, APP)
}, 900_000)
afterAll(async () => {
  await node?.stop()
  await rm(folder, { recursive: true, force: true })
})

const get = (target: string): Promise<WireAnswer> => node.http(`http://${service}${target}`)
const pods = () => listPods(node, NAMESPACE, `app=${APP}`)

/** Every pod's answer, by its own address and the application's own port. */
async function getFromEach(target: string): Promise<WireAnswer[]> {
  return Promise.all((await pods()).map(({ status }) => node.http(`http://${status.podIP}:${APP_PORT}${target}`)))
}

/** The sum of a counter's samples over all proxies, of those whose labels `labels` finds. */
async function counted(family: string, labels: RegExp): Promise<number> {
  let sum = 0
  for (const { status } of await pods()) {
    const { text } = await node.http(`http://${status.podIP}:${ADMIN_PORT}/metrics`)
    for (const [, found = '', value] of text.matchAll(new RegExp(`^${family}_total\\{(.*)\\} (\\S+)`, 'gm'))) {
      if (labels.test(found)) sum += Number(value)
    }
  }
  return sum
}

describe('an application in a namespace that requires Signet', () => {
  it('has a ready sidecar in each pod', async () => {
    const all = await pods()
    expect(all).toHaveLength(REPLICAS)
    for (const { metadata, spec, status } of all) {
      expect(metadata.annotations?.['signet.dev/injected']).toMatch(/^[0-9a-f]{16}$/)
      expect(spec.initContainers?.map(({ name, restartPolicy }) => [name, restartPolicy])).toEqual([
        ['signet-redirect', undefined],
        ['signet-proxy', 'Always'],
      ])
      expect(status.conditions).toContainEqual(expect.objectContaining({ type: 'Ready', status: 'True' }))
    }
  })

  it('answers with stamps that the exported keys verify', async () => {
    const answer = await get('/reports/q3')
    expect(answer.status).toBe(200)
    expect(answer.json()).toMatchObject({
      title: 'Revenue of the third quarter',
      _compliance: { stamp_version: 'v1', data_lineage: { producer_id: `${NAMESPACE}/default` } },
    })
    const [content, keyring] = [path.join(folder, 'q3.json'), path.join(folder, 'keyring.json')]
    await writeFile(content, answer.body)
    await writeFile(keyring, await readSecret(node, SYSTEM, 'signet-ledger-keys', 'keyring.json'), { mode: 0o600 })
    const subject = ['--method', 'GET', '--status', '200', '--tenant', NAMESPACE, '--channel', 'external']
    const verify = (target: string): Promise<string> =>
      runTool(process.execPath, [CLI, 'verify', content, '--keyring', keyring, '--target', target, ...subject])
    await expect(verify('/reports/q3')).resolves.toContain('verified')
    await expect(verify('/reports/q4')).rejects.toThrow(/ended with 1/)
  })

  it('has its events in a ledger whose chain verifies', async () => {
    const [token, ca] = [path.join(folder, 'auditor.token'), path.join(folder, 'ca.crt')]
    await writeFile(token, await node.createPodToken({ ...AUDITOR, audience: 'signet-ledger' }), { mode: 0o600 })
    await writeFile(ca, await readSecret(node, SYSTEM, 'signet-ca', 'ca.crt'))
    const report = await node.run('env', [
      `NODE_EXTRA_CA_CERTS=${ca}`,
      process.execPath,
      CLI,
      'verify',
      '--ledger',
      '--json',
      '--tenant',
      NAMESPACE,
      '--url',
      `https://signet-ledger.${SYSTEM}.svc:8090`,
      '--token-file',
      token,
      '--keyring',
      path.join(folder, 'keyring.json'),
    ])
    expect(JSON.parse(report)).toMatchObject({ result: 'verified', tenant: NAMESPACE, unchecked: [], without_key: 0 })
  })

  it('cannot be reached around the proxy', async () => {
    const answers = await getFromEach('/reports/q3')
    for (const answer of answers) expect(answer.json()).toHaveProperty('_compliance.integrity.mac')
    // The application has seen nobody but its proxy.
    const log = await node.kubectl(['logs', '--namespace', NAMESPACE, `deployment/${APP}`, '--container', 'app'])
    const asked = [...log.matchAll(/"path":"\/reports\/q3","from":"([^"]*)"/g)].map(([, from]) => from)
    expect(asked.length).toBeGreaterThan(0)
    for (const from of asked) expect(from).toMatch(/^(::ffff:)?127\.0\.0\.1$/)
    // Ports that nobody opened stay shut, whoever listens there.
    const [{ status } = { status: { podIP: '' } }] = await pods()
    await expect(node.http(`http://${status.podIP}:9999/`)).rejects.toThrow()
  })

  it('is kept out of the cluster without its sidecar, and nobody gets at the sidecar', async () => {
    const [pod] = await pods()
    const debug = ['debug', '--namespace', NAMESPACE, pod?.metadata.name ?? '', '--image', 'localhost/demo:1']
    await expect(node.kubectl([...debug, '--target', 'signet-proxy', '--', 'sh'])).rejects.toThrow(/signet/i)
    const bare = {
      metadata: { name: 'host' },
      spec: { hostNetwork: true, containers: [{ name: 'app', image: 'localhost/demo:1' }] },
    }
    const refused = await node.request('POST', `/api/v1/namespaces/${NAMESPACE}/pods`, bare)
    expect([403, 422]).toContain(refused.status)
    expect(refused.text).toContain('signet')
  })

  it('runs a Job to its end', async () => {
    await apply(node, job('once', `http://${APP}.${NAMESPACE}.svc/reports/q3`))
    await node.waitFor('the job is complete', async () => {
      const answer = await node.request('GET', `/apis/batch/v1/namespaces/${NAMESPACE}/jobs/once`)
      const { status } = answer.json<{ status: { conditions?: { type: string; status: string }[] } }>()
      return status.conditions?.some(({ type, status }) => type === 'Complete' && status === 'True')
    })
    const log = await node.kubectl(['logs', '--namespace', NAMESPACE, 'job/once', '--container', 'once'])
    expect(log).toContain('\\"_compliance\\"')
  })

  it('drains in order: a pod that is told to go finishes what it has begun, stamped and recorded', async () => {
    const [pod] = await pods()
    const { name } = pod?.metadata ?? { name: '' }
    const address = pod?.status.podIP ?? ''
    // So that what the kubelet says at the end can still be read.
    const finalizers = (value: string[]): Promise<string> =>
      node.kubectl([
        'patch',
        'pod',
        '-n',
        NAMESPACE,
        name,
        '--type=merge',
        '-p',
        JSON.stringify({ metadata: { finalizers: value } }),
      ])
    await finalizers(['signet.dev/e2e'])
    const slow = node.http(`http://${address}:${APP_PORT}/reports/q3?wait=4000`)
    await node.waitFor('the request is under way', async () => (await inFlight(address)) === 1)
    await node.kubectl(['delete', 'pod', '--namespace', NAMESPACE, name, '--wait=false'])
    const answer = await slow
    expect(answer.status).toBe(200)
    expect(answer.json()).toHaveProperty('_compliance.integrity.mac')
    const ends = await node.waitFor('all its containers have ended', () => readEnds(node, NAMESPACE, name))
    await finalizers([])
    expect(Object.keys(ends).sort()).toEqual(['app', 'signet-proxy'])
    expect(ends['app']?.exitCode).toBe(0)
    expect(ends['signet-proxy']?.exitCode).toBe(0)
    expect(Date.parse(ends['signet-proxy']?.finishedAt ?? '')).toBeGreaterThanOrEqual(
      Date.parse(ends['app']?.finishedAt ?? ''),
    )
    await waitForDeployment(node, NAMESPACE, APP)
    const { request_id: requestId } = answer.json<{ _compliance: { data_lineage: { request_id: string } } }>()
      ._compliance.data_lineage
    await node.waitFor('the ledger has the event', async () => (await ledgerLog()).includes(requestId))
  })
})

it('gives its bundles to the pods of the namespace alone', async () => {
  const wire = node.wire({
    ca: await readSecret(node, SYSTEM, 'signet-ca', 'ca.crt'),
    host: await clusterIp(node, SYSTEM, 'signet-operator'),
  })
  const url = `https://signet-operator.${SYSTEM}.svc:8443/v1/bundles/namespace/${NAMESPACE}`
  const pull = async (headers: Record<string, string>): Promise<number> => (await wire.send(url, { headers })).status
  expect(await pull({})).toBe(401)
  for (const [audience, wantStatus] of [
    ['signet-bundles', 403],
    ['signet-ledger', 401],
  ] as const) {
    const token = await node.createPodToken({ ...AUDITOR, audience })
    expect(await pull({ authorization: `Bearer ${token}` })).toBe(wantStatus)
  }
  // Nobody can have the token of a sidecar made: only a kubelet gets one.
  const sidecar = { namespace: NAMESPACE, serviceAccount: 'default', pod: (await pods())[0]?.metadata.name ?? '' }
  await expect(node.createPodToken({ ...sidecar, audience: 'signet-bundles' })).rejects.toThrow(/only kubelets/)
})

it('is governed: the first user signs in over TLS, and what they do is in the ledger of their tenant', async () => {
  const wire = node.wire({
    ca: await readSecret(node, SYSTEM, 'signet-ca', 'ca.crt'),
    host: await clusterIp(node, SYSTEM, 'signet-governance'),
  })
  const origin = `https://signet-governance.${SYSTEM}.svc:8000`
  const post = async (url: string, body: object, token?: string) => {
    const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` }
    const headers = { 'content-type': 'application/json', ...authorization }
    return wire.send(`${origin}${url}`, { method: 'POST', headers, body: JSON.stringify(body) })
  }
  try {
    expect((await post('/api/v1/session', { ...GOVERNOR, password: 'not this one, but as long' })).status).toBe(401)
    const session = await post('/api/v1/session', GOVERNOR)
    expect(session.status, session.text).toBe(201)
    const { token } = session.json<{ token: string }>()
    const made = await post('/api/v1/users', { email: 'ines@payments.example', name: 'Ines' }, token)
    expect(made.status, made.text).toBe(201)
    // A policy that is activated reaches the sidecars as a rule of the operator.
    const rego_content = `package drafts

decision := {"evaluated": true, "violations": [refusal | contains(input.request.path, "governed"); refusal := {"severity": "high", "message": "governance says no", "remediation": {"hint": "ask"}, "frameworks": []}]}
`
    const policy = await post('/api/v1/policies', { name: 'No governed', policy_type: 'opa_rego', rego_content }, token)
    expect(policy.status, policy.text).toBe(201)
    expect((await get('/governed')).status).not.toBe(422)
    const { id } = policy.json<{ id: string }>()
    expect((await post(`/api/v1/policies/${id}/activate`, {}, token)).status).toBe(200)
    const refused = async () =>
      (await getFromEach('/governed')).every(
        ({ status, text }) => status === 422 && text.includes('governance says no'),
      )
    await node.waitFor('every proxy follows the policy', refused, 120_000)
    expect((await post(`/api/v1/policies/${id}/deactivate`, {}, token)).status).toBe(200)
    await node.waitFor(
      'no proxy follows it any more',
      async () => (await getFromEach('/governed')).every(({ status }) => status !== 422),
      120_000,
    )
  } finally {
    wire.close()
  }
  const log = JSON.parse(await ledgerLog()) as { items: { event: { event_type: string; action: string } }[] }
  const written = log.items.map(({ event }) => event).filter(({ action }) => action === 'users.write')
  expect(written.map(({ event_type }) => event_type).sort()).toEqual(['governance.intent', 'governance.outcome'])
})

it('is found in order by signet doctor', async () => {
  const report = await node.run(process.execPath, [CLI, 'doctor'])
  expect(report).toMatch(/0 errors, 0 warnings/)
})

async function inFlight(address: string): Promise<number> {
  const { text } = await node.http(`http://${address}:${ADMIN_PORT}/metrics`)
  return Number(/^signet_in_flight (\d+)$/m.exec(text)?.[1])
}

/** What the ledger tells an auditor of the tenant. */
async function ledgerLog(): Promise<string> {
  const wire = node.wire({
    ca: await readSecret(node, SYSTEM, 'signet-ca', 'ca.crt'),
    host: await clusterIp(node, SYSTEM, 'signet-ledger'),
  })
  const token = await node.createPodToken({ ...AUDITOR, audience: 'signet-ledger' })
  try {
    const headers = { authorization: `Bearer ${token}` }
    const answer = await wire.send(`https://signet-ledger.${SYSTEM}.svc:8090/api/audit/logs?limit=500`, { headers })
    expect(answer.status).toBe(200)
    return answer.text
  } finally {
    wire.close()
  }
}

describe('a rule', () => {
  let revision: string

  it('is refused at once when its Rego is wrong, with the line', async () => {
    const broken = { description: 'broken', severity: 'low', rego: 'package broken\n\ndecision := {' }
    const rule = { ...draftRule('enforce'), metadata: { name: 'broken', namespace: NAMESPACE }, spec: broken }
    await expect(apply(node, rule)).rejects.toThrow(/line 3|3:/)
  })

  it('reaches three running proxies and refuses what it forbids', async () => {
    expect((await get('/drafts/9')).status).toBe(200)
    await apply(node, draftRule('enforce'))
    const appliedAt = Date.now()
    await node.waitFor('every proxy refuses drafts', async () =>
      (await getFromEach('/drafts/9')).every(({ status }) => status === 422),
    )
    expect(Date.now() - appliedAt).toBeLessThan(10_000)
    revision = await waitForDistribution(node, 'no-drafts', REPLICAS)
    for (const answer of await getFromEach('/drafts/9')) {
      expect(answer.status).toBe(422)
      expect(answer.headers['content-type']).toContain('application/problem+json')
      expect(answer.json()).toMatchObject({
        violations: [
          { rule: expect.stringContaining('no-drafts') as string, remediation: { hint: 'Publish it first' } },
        ],
      })
      expect(answer.text).not.toContain('Outlook')
    }
    expect((await get('/reports/q3')).status).toBe(200)
    expect(await counted('stamps_rejected', /no-drafts/)).toBeGreaterThanOrEqual(REPLICAS)
  })

  it('is changed under a new leader, after the old one was killed', async () => {
    const leader = await readLeader(node, SYSTEM)
    const operators = await listPods(node, SYSTEM, 'app.kubernetes.io/name=signet-operator')
    const pod = operators.find(({ metadata }) => leader.startsWith(metadata.name))
    await node.kubectl(['delete', 'pod', '-n', SYSTEM, pod?.metadata.name ?? '', '--grace-period=0', '--force'])
    await apply(node, draftRule('shadow'))
    const next = await waitForDistribution(node, 'no-drafts', REPLICAS)
    expect(next).not.toBe(revision)
    expect(await readLeader(node, SYSTEM)).not.toBe(leader)
    revision = next
  })

  it('in shadow lets the response through, stamped, and counts it', async () => {
    const before = await counted('signet_shadow_violations', /no-drafts/)
    for (const answer of await getFromEach('/drafts/9')) {
      expect(answer.status).toBe(200)
      expect(answer.json()).toMatchObject({ _compliance: { policy: { bundle_revision: revision } } })
    }
    expect((await counted('signet_shadow_violations', /no-drafts/)) - before).toBe(REPLICAS)
  })

  it('is gone from the proxies when it is deleted', async () => {
    await node.kubectl(['delete', 'compliancerule', '--namespace', NAMESPACE, 'no-drafts'])
    await expect(readRule(node, 'no-drafts')).rejects.toThrow(/404/)
    await node.waitFor('every proxy has a bundle without it', async () => {
      const answers = await getFromEach('/drafts/9')
      return answers.every((answer) => bundleRevision(answer) !== revision)
    })
    const before = await counted('signet_shadow_violations', /no-drafts/)
    expect((await get('/drafts/9')).status).toBe(200)
    expect(await counted('signet_shadow_violations', /no-drafts/)).toBe(before)
  })
})

function bundleRevision(answer: WireAnswer): string {
  return answer.json<{ _compliance: { policy: { bundle_revision: string } } }>()._compliance.policy.bundle_revision
}
