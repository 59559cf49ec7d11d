import { execFile } from 'node:child_process'
import { mkdtemp, writeFile } from 'node:fs/promises'
import { createServer, get } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { connect } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readCertificate, splitCertificates } from '#operator/certificates/authority.ts'
import {
  CA_SECRET,
  keepCertificates,
  GOVERNANCE_TLS_SECRET,
  LEDGER_TLS_SECRET,
  OPERATOR_TLS_SECRET,
  serviceNames,
  TRUST_CONFIG_MAP,
} from '#operator/certificates/keeper.ts'
import { createWebhookConfigurations } from '#operator/certificates/webhook-configurations.ts'
import type { KubernetesClient } from '#operator/kubernetes/client.ts'
import { createNamedObjects, secretText, type NamedObjects } from '#operator/kubernetes/named-objects.ts'
import { startApiServer, type TestApiServer } from '#test/support/api-server.ts'
import { administrator, eventually, OPERATOR_NAMESPACE, startOperatorProcess } from '#test/support/operator-process.ts'

const DAY_MS = 86_400_000
const CA_DAYS = 300
const HOST = `signet-operator.${OPERATOR_NAMESPACE}.svc`

let server: TestApiServer
let client: KubernetesClient
let objects: NamedObjects

beforeAll(async () => {
  server = await startApiServer({ crds: true })
  client = administrator(server)
  objects = createNamedObjects(client, OPERATOR_NAMESPACE)
  await server.createNamespace(OPERATOR_NAMESPACE)
  for (const kind of ['MutatingWebhookConfiguration', 'ValidatingWebhookConfiguration']) {
    await server.kubectl(['apply', '-f', '-'], JSON.stringify(webhookConfiguration(kind)))
  }
})
afterAll(async () => {
  await client?.close()
  await server?.stop()
})

function webhookConfiguration(kind: string): object {
  const webhook = (name: string, service: { namespace: string; name: string }): object => ({
    name,
    admissionReviewVersions: ['v1'],
    sideEffects: 'None',
    failurePolicy: 'Ignore',
    timeoutSeconds: 7,
    clientConfig: { service: { ...service, path: '/somewhere' } },
    rules: [{ apiGroups: ['nowhere.example'], apiVersions: ['v1'], operations: ['CREATE'], resources: ['things'] }],
  })
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind,
    metadata: { name: 'signet' },
    webhooks: [
      webhook('ours.signet.dev', { namespace: OPERATOR_NAMESPACE, name: 'signet-operator' }),
      webhook('others.example.org', { namespace: 'elsewhere', name: 'other' }),
    ],
  }
}

/** One pass of the leader, at a time of our choice. */
async function keepAt(days: number): Promise<{ issued: string[]; trusted: string }> {
  const issued: string[] = []
  const { trusted } = await keepCertificates({
    objects,
    webhooks: createWebhookConfigurations({
      client,
      name: 'signet',
      service: { namespace: OPERATOR_NAMESPACE, name: 'signet-operator' },
    }),
    namespace: OPERATOR_NAMESPACE,
    now: () => new Date(Date.now() + days * DAY_MS),
    caLifetimeMs: CA_DAYS * DAY_MS,
    servingLifetimeMs: 90 * DAY_MS,
    onIssued: (what, reason) => issued.push(`${what}: ${reason}`),
  })
  return { issued, trusted }
}

async function pairOf(name: string): Promise<{ cert: string; key: string; ca: string }> {
  const secret = await objects.readSecret(name)
  const text = (key: string): string => (secret === null ? '' : (secretText(secret, key) ?? ''))
  return { cert: text('tls.crt'), key: text('tls.key'), ca: text('ca.crt') }
}

async function caBundles(): Promise<string[]> {
  const bundles: string[] = []
  for (const kind of ['mutatingwebhookconfigurations', 'validatingwebhookconfigurations']) {
    const path = `/apis/admissionregistration.k8s.io/v1/${kind}/signet`
    const { webhooks } = (await server.request('GET', path)).json<{
      webhooks: { clientConfig: { caBundle?: string }; timeoutSeconds: number; rules: unknown[] }[]
    }>()
    expect(webhooks.map(({ timeoutSeconds, rules }) => [timeoutSeconds, rules.length])).toEqual([
      [7, 1],
      [7, 1],
    ])
    bundles.push(
      ...webhooks.map(({ clientConfig }) => Buffer.from(clientConfig.caBundle ?? '', 'base64').toString('utf8')),
    )
  }
  return bundles
}

/** Whether openssl takes the certificate for `host` at that time, trusting `ca`. */
async function verifiesAt(days: number, pair: { cert: string }, ca: string, host = HOST): Promise<boolean> {
  const folder = await mkdtemp(path.join(tmpdir(), 'signet-verify-'))
  const [certFile, caFile] = [path.join(folder, 'cert.pem'), path.join(folder, 'ca.pem')]
  await writeFile(certFile, pair.cert)
  await writeFile(caFile, ca)
  const at = String(Math.floor(Date.now() / 1000 + days * 86_400))
  const args = [
    'verify',
    '-attime',
    at,
    '-x509_strict',
    '-purpose',
    'sslserver',
    '-verify_hostname',
    host,
    '-CAfile',
    caFile,
    certFile,
  ]
  return new Promise((resolve) => execFile('openssl', args, (error) => resolve(error === null)))
}

/** Whether a client that trusts `ca` takes a server that has this pair for `host`. */
async function isTrusted(pair: { cert: string; key: string }, ca: string, host: string): Promise<string> {
  const listener = createServer(pair, (_request, response) => response.end('ok'))
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  const { port } = listener.address() as AddressInfo
  try {
    return await new Promise<string>((resolve) => {
      get({ host: '127.0.0.1', port, servername: host, ca, agent: false }, (response) => {
        response.resume()
        resolve('trusted')
      }).on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    })
  } finally {
    listener.close()
  }
}

describe('the own authority over its life', () => {
  it('first start: authority, serving certificates, trust and caBundle; verified by a real handshake', async () => {
    const { issued, trusted } = await keepAt(0)
    expect(issued).toEqual([
      `${CA_SECRET}: created: there is none`,
      `${OPERATOR_TLS_SECRET}: there is none`,
      `${LEDGER_TLS_SECRET}: there is none`,
      `${GOVERNANCE_TLS_SECRET}: there is none`,
    ])
    expect(splitCertificates(trusted)).toHaveLength(1)
    const operator = await pairOf(OPERATOR_TLS_SECRET)
    expect(operator.ca).toBe(trusted)
    expect(readCertificate(operator.cert)?.dnsNames).toEqual(serviceNames('signet-operator', OPERATOR_NAMESPACE).sort())
    expect(await isTrusted(operator, trusted, HOST)).toBe('trusted')
    expect(await isTrusted(operator, trusted, 'signet-ledger.signet-system.svc')).toBe('ERR_TLS_CERT_ALTNAME_INVALID')
    expect(await isTrusted(await pairOf(LEDGER_TLS_SECRET), trusted, 'signet-ledger.signet-system.svc')).toBe('trusted')
    expect((await objects.readConfigMap(TRUST_CONFIG_MAP))?.data).toEqual({
      'ca.crt': trusted,
      'previous.crt': trusted,
    })
    // Only where a webhook leads to us; nothing else of it is touched.
    expect(await caBundles()).toEqual([trusted, '', trusted, ''])
  })

  it('nothing is written while nothing is due', async () => {
    const before = (await objects.readSecret(CA_SECRET))?.metadata.resourceVersion
    expect((await keepAt(1)).issued).toEqual([])
    expect((await objects.readSecret(CA_SECRET))?.metadata.resourceVersion).toBe(before)
  })

  it('serving certificates are renewed at two thirds of their life', async () => {
    expect((await keepAt(59)).issued).toEqual([])
    expect((await keepAt(61)).issued).toEqual([
      `${OPERATOR_TLS_SECRET}: two thirds of its life are over`,
      `${LEDGER_TLS_SECRET}: two thirds of its life are over`,
      `${GOVERNANCE_TLS_SECRET}: two thirds of its life are over`,
    ])
  })

  it('at two thirds of its life a successor is trusted, at five sixths it signs, and who pinned the bundle in between trusts both', async () => {
    const [old] = splitCertificates((await pairOf(OPERATOR_TLS_SECRET)).ca)
    const announced = await keepAt(201)
    expect(announced.issued).toContain(`${CA_SECRET}: announce`)
    const pinned = splitCertificates(announced.trusted)
    expect(pinned).toHaveLength(2)
    expect(pinned[0]).toBe(old)
    expect(await caBundles()).toEqual([announced.trusted, '', announced.trusted, ''])
    expect((await objects.readConfigMap(TRUST_CONFIG_MAP))?.data).toEqual({
      'ca.crt': announced.trusted,
      'previous.crt': old,
    })
    // Still signed by the old one: who has only that goes on.
    expect(await verifiesAt(201, await pairOf(OPERATOR_TLS_SECRET), old ?? '')).toBe(true)

    const promoted = await keepAt(251)
    expect(promoted.issued).toContain(`${CA_SECRET}: promote`)
    expect(splitCertificates(promoted.trusted).sort()).toEqual([...pinned].sort())
    const now = await pairOf(OPERATOR_TLS_SECRET)
    expect(await verifiesAt(251, now, announced.trusted)).toBe(true)
    expect(await verifiesAt(251, now, pinned[1] ?? '')).toBe(true)
    expect(await verifiesAt(251, now, old ?? '')).toBe(false)
    expect(await verifiesAt(251, now, announced.trusted, 'elsewhere.example')).toBe(false)

    const pruned = await keepAt(301)
    expect(pruned.issued).toContain(`${CA_SECRET}: prune`)
    expect(splitCertificates(pruned.trusted)).toEqual([pinned[1]])
    expect(await caBundles()).toEqual([pruned.trusted, '', pruned.trusted, ''])
  })

  it('several leaders at once make one authority', async () => {
    await server.kubectl(['-n', OPERATOR_NAMESPACE, 'delete', 'secret,configmap', '--all'])
    const results = await Promise.allSettled(Array.from({ length: 5 }, () => keepAt(0)))
    expect(results.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThan(0)
    const { trusted } = await keepAt(0)
    expect(splitCertificates(trusted)).toHaveLength(1)
    expect(await isTrusted(await pairOf(OPERATOR_TLS_SECRET), trusted, HOST)).toBe('trusted')
  })

  it('a Secret that somebody broke is made anew', async () => {
    await server.kubectl([
      '-n',
      OPERATOR_NAMESPACE,
      'patch',
      'secret',
      LEDGER_TLS_SECRET,
      '--type=merge',
      '-p',
      '{"data":{"tls.crt":"bm9uc2Vuc2U="}}',
    ])
    expect((await keepAt(0)).issued).toEqual([`${LEDGER_TLS_SECRET}: the stored one cannot be read`])
    await server.kubectl([
      '-n',
      OPERATOR_NAMESPACE,
      'patch',
      'secret',
      CA_SECRET,
      '--type=merge',
      '-p',
      '{"data":{"tls.key":"bm9uc2Vuc2U="}}',
    ])
    const { issued, trusted } = await keepAt(0)
    expect(issued[0]).toBe(`${CA_SECRET}: created: the stored one cannot be read`)
    // Whoever has the former one pinned is not cut off by what is left of it, but cannot trust what is new: said loudly in the log.
    expect(splitCertificates(trusted)).toHaveLength(2)
    expect(await isTrusted(await pairOf(OPERATOR_TLS_SECRET), trusted, HOST)).toBe('trusted')
  })
})

describe('an operator process', () => {
  it('takes a new certificate without a restart', async () => {
    const operator = await startOperatorProcess(server, 'operator')
    try {
      const { webhooks, bundles } = await operator.listening
      const before = await pairOf(OPERATOR_TLS_SECRET)
      expect(await served(webhooks)).toBe(splitCertificates(before.cert)[0])
      await server.kubectl(['-n', OPERATOR_NAMESPACE, 'delete', 'secret', OPERATOR_TLS_SECRET])
      const after = await eventually('issued again', async () => {
        const pair = await pairOf(OPERATOR_TLS_SECRET)
        return pair.cert !== '' && pair.cert !== before.cert ? pair : undefined
      })
      await eventually('served by both listeners', async () => {
        const [now] = splitCertificates(after.cert)
        return (await served(webhooks)) === now && (await served(bundles)) === now
      })
      expect(operator.running).toBe(true)
    } finally {
      await operator.kill()
    }
  })
})

/** The certificate that a listener presents. */
function served(address: string): Promise<string> {
  const [host, port] = address.split(':')
  return new Promise((resolve, reject) => {
    const socket = connect(
      { host: host ?? '', port: Number(port), servername: HOST, rejectUnauthorized: false },
      () => {
        resolve(
          splitCertificates(
            `-----BEGIN CERTIFICATE-----\n${socket.getPeerCertificate().raw.toString('base64')}\n-----END CERTIFICATE-----`,
          )[0] ?? '',
        )
        socket.end()
      },
    ).on('error', reject)
  })
}
