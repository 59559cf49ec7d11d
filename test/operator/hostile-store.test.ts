import { isDeepStrictEqual } from 'node:util'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually, OPERATOR_NAMESPACE } from '#test/support/operator-process.ts'
import { GOOD, startHostileStack, type HostileStack } from './hostile-stack.ts'

/*
 * What somebody does to the objects that the operator keeps in its own namespace: ConfigMaps, Secrets, its Lease. What is false is not served
 * as valid; it is repaired, or told.
 */
let stack: HostileStack
let token: string
beforeAll(async () => {
  stack = await startHostileStack(['shop', 'bank'])
  for (const namespace of ['shop', 'bank']) {
    await stack.apply(namespace, 'standing', GOOD)
    await stack.says(`${namespace}/standing`, 'Distributed', 'True NoProxies')
  }
  token = await stack.server.createPodToken({
    namespace: 'shop',
    serviceAccount: 'default',
    pod: 'web',
    audience: 'signet-bundles',
  })
}, 300_000)
afterAll(() => stack?.stop())

const CONFIG_MAPS = `/api/v1/namespaces/${OPERATOR_NAMESPACE}/configmaps`
const SECRETS = `/api/v1/namespaces/${OPERATOR_NAMESPACE}/secrets`
const LEASE = `/apis/coordination.k8s.io/v1/namespaces/${OPERATOR_NAMESPACE}/leases/signet-operator`
const MERGE = { contentType: 'application/merge-patch+json' }
const INDEX = `${CONFIG_MAPS}/signet-bundles-shop`

type ConfigMap = {
  metadata: { name: string; uid: string; labels: Record<string, string>; annotations: Record<string, string> }
  data: Record<string, string>
  binaryData: Record<string, string>
}
type Index = {
  revisions: { signature: string; modules: string[]; policy: string; sequence: number; revision: string }[]
}

const read = async (at: string): Promise<ConfigMap> => (await stack.server.request('GET', at)).json<ConfigMap>()
const readIndex = async (): Promise<Index> => JSON.parse((await read(INDEX)).data['index.json']!) as Index
const patch = async (at: string, body: object): Promise<void> => {
  const { status, text } = await stack.server.request('PATCH', at, body, MERGE)
  expect([status, status === 200 ? '' : text]).toEqual([200, ''])
}
const pull = () => stack.call('bundles', '/v1/bundles/namespace/shop', { token })

async function edit(change: (index: Index) => void): Promise<Index> {
  const index = await readIndex()
  change(index)
  await patch(INDEX, { data: { 'index.json': JSON.stringify(index) } })
  return index
}

describe('ConfigMaps', () => {
  it('of 10 MB are refused by the API server', async () => {
    const body = { metadata: { name: 'big' }, data: { 'index.json': 'x'.repeat(10 << 20) } }
    expect((await stack.server.request('POST', CONFIG_MAPS, body)).status).toBeGreaterThanOrEqual(400)
  })

  it('of 1 MiB, hundreds of them with our labels and names, cost bounded memory, also at a start', async () => {
    const kinds = ['index', 'blob', 'trust', 'status']
    const content = gzipSync(`[${' '.repeat(30 << 20)}]`).toString('base64')
    const make = async (index: number): Promise<void> => {
      const kind = kinds[index % kinds.length]!
      const body = {
        metadata: {
          name: kind === 'index' ? `signet-bundles-none-${index}` : `signet-bundle-${kind}-${index}`,
          labels: { 'signet.dev/bundle-object': kind, 'app.kubernetes.io/part-of': 'signet' },
        },
        data: { 'index.json': 'x'.repeat(900_000) },
        binaryData: { 'proxies.json.gz': content, content },
      }
      expect((await stack.server.request('POST', CONFIG_MAPS, body)).status).toBe(201)
    }
    await stack.survives(async () => {
      for (let from = 0; from < 240; from += 8) await Promise.all(Array.from({ length: 8 }, (_, i) => make(from + i)))
    })
    await stack.restart()
    await stack.survives(async () => expect((await pull()).status).toBe(200))
    for (const kind of kinds)
      await stack.server.request(
        'DELETE',
        `${CONFIG_MAPS}?labelSelector=signet.dev/bundle-object%3D${kind}&fieldSelector=metadata.name!%3Dsignet-bundles-shop`,
      )
  }, 300_000)

  it('that were all deleted are made again from the rules', async () => {
    await stack.survives(async () => {
      for (const kind of ['index', 'blob', 'trust'])
        await stack.server.request('DELETE', `${CONFIG_MAPS}?labelSelector=signet.dev/bundle-object%3D${kind}`)
      await eventually('the index is there again', async () => (await stack.revision('shop')) !== undefined, 60_000)
      await eventually('it can be pulled', async () => (await pull()).status === 200, 60_000)
    })
  }, 180_000)

  it('that are an index which leads to another module, a signature of somebody else’s, an older sequence are published anew', async () => {
    const edits: ((index: Index) => void)[] = [
      ({ revisions: [first] }) => (first!.modules = first!.modules.toReversed()),
      ({ revisions: [first] }) => (first!.modules = [first!.policy]),
      ({ revisions: [first] }) => (first!.signature = `${first!.signature.slice(0, -86)}${'A'.repeat(86)}`),
      ({ revisions: [first] }) => (first!.sequence = 1),
    ]
    for (const change of edits) {
      const before = await readIndex()
      const forged = await edit(change)
      const mended = await eventually('it is published anew', async () => {
        const index = await readIndex()
        const isMended = index.revisions.every(({ signature, sequence, modules }) => {
          const [bad] = forged.revisions
          return signature !== bad!.signature || (sequence !== bad!.sequence && modules !== bad!.modules)
        })
        return isMended && index.revisions[0]!.revision !== before.revisions[0]!.revision ? index : undefined
      })
      expect(mended.revisions[0]!.sequence).toBeGreaterThan(before.revisions[0]!.sequence)
      expect(mended.revisions[0]!.modules).toEqual(before.revisions[0]!.modules)
    }
    await eventually(
      'each publication is audited',
      () =>
        stack.events.filter(
          ({ event_type: type, resource }) =>
            type === 'policy.bundle.published' && resource === 'bundle/namespace/shop',
        ).length > edits.length,
    )
  }, 120_000)

  it('that are an index without its labels get them back', async () => {
    const { labels } = (await read(INDEX)).metadata
    await stack.survives(async () => {
      await patch(INDEX, { metadata: { labels: Object.fromEntries(Object.keys(labels).map((name) => [name, null])) } })
      await eventually('the labels are back', async () => {
        const found = (await read(INDEX)).metadata.labels
        return isDeepStrictEqual(found, labels)
      })
    })
    expect((await pull()).status).toBe(200)
  })

  it('that are an index of garbage are written anew from the rules, above what proxies have, while what was known is served on', async () => {
    const before = await readIndex()
    await stack.survives(async () => {
      for (const garbage of [
        '',
        '{',
        '[]',
        '{"version":1}',
        JSON.stringify({ version: 1, scope: 'namespace/bank' }),
        'x'.repeat(1_000_000),
      ]) {
        await patch(INDEX, { data: { 'index.json': garbage } })
        expect((await pull()).status).toBe(200)
        await eventually(`an index in the place of ${garbage.slice(0, 20)}`, async () => {
          const found = await readIndex().catch(() => undefined)
          return found?.revisions === undefined ? undefined : found
        })
      }
    })
    const after = await readIndex()
    expect(after.revisions[0]!.sequence).toBeGreaterThan(before.revisions[0]!.sequence)
    expect((await pull()).status).toBe(200)
    await stack.apply('shop', 'new', GOOD)
    await stack.says('shop/new', 'Distributed', 'True NoProxies', 60_000)
    expect(JSON.stringify(stack.operator.log)).toContain('was written anew from the rules')
  }, 180_000)

  it('that are parts of a module, deleted or replaced by other bytes, are stored again', async () => {
    const [module] = (await readIndex()).revisions[0]!.modules
    const chunk = `${CONFIG_MAPS}/signet-bundle-blob-${module}-0`
    // All were deleted above: what is missing is seen, and stored again, every half minute.
    const whole = await eventually(
      'the part is there',
      async () => {
        const found = await stack.server.request('GET', chunk)
        return found.status === 200 && found.json<ConfigMap>()
      },
      90_000,
    )
    await stack.survives(async () => {
      await stack.server.request('DELETE', chunk)
      await eventually(
        'the part is back',
        async () => (await stack.server.request('GET', chunk)).status === 200,
        60_000,
      )
      const { name, labels, annotations } = whole.metadata
      const other = {
        metadata: { name, labels, annotations },
        binaryData: { content: gzipSync('other').toString('base64') },
      }
      // The operator may be the faster one, and have stored the part again before it is replaced: then it is deleted once more.
      await eventually('it is replaced', async () => {
        await stack.server.request('DELETE', chunk)
        const { status } = await stack.server.request('POST', CONFIG_MAPS, other)
        expect([201, 409]).toContain(status)
        return status === 201
      })
      await eventually(
        'its bytes are back',
        async () => (await read(chunk)).binaryData['content'] === whole.binaryData['content'],
        60_000,
      )
    })
    expect(stack.operator.log.some((line) => JSON.stringify(line).includes('was damaged'))).toBe(true)
  }, 180_000)
})

describe('Secrets', () => {
  const garbage = (data: Record<string, string>): object => ({
    data: Object.fromEntries(Object.entries(data).map(([name, text]) => [name, Buffer.from(text).toString('base64')])),
  })

  it('of certificates that are garbage or gone are made again, while the former pair serves', async () => {
    await stack.survives(
      async () => {
        for (const name of ['signet-ca', 'signet-operator-tls', 'signet-ledger-tls'])
          await patch(`${SECRETS}/${name}`, garbage({ 'tls.crt': 'x', 'tls.key': '-----BEGIN', 'ca.crt': '\u0000' }))
        expect((await pull()).status).toBe(200)
        await eventually(
          'they are certificates again',
          async () => {
            const secrets = await Promise.all(
              ['signet-ca', 'signet-operator-tls', 'signet-ledger-tls'].map((name) => read(`${SECRETS}/${name}`)),
            )
            return secrets.every(({ data }) =>
              Buffer.from(data['tls.crt']!, 'base64').toString().startsWith('-----BEGIN CERT'),
            )
          },
          60_000,
        )
        await stack.server.request('DELETE', `${SECRETS}/signet-ca`)
        await stack.server.request('DELETE', `${SECRETS}/signet-operator-tls`)
        await eventually(
          'they are there again',
          async () => (await stack.server.request('GET', `${SECRETS}/signet-operator-tls`)).status === 200,
          60_000,
        )
      },
      { goodMs: 30_000 },
    )
    expect((await pull()).status).toBe(200)
  }, 180_000)

  it('of the bundle key that are garbage are told and not written over; deleted, there is a new key and all is signed anew', async () => {
    const at = `${SECRETS}/signet-bundle-signing`
    await patch(at, garbage({ 'keys.json': '{"version":1,"keys":[]}' }))
    await eventually(
      'it is told',
      () => stack.operator.log.some((line) => JSON.stringify(line).includes('signing key is not in form')),
      60_000,
    )
    expect((await pull()).status).toBe(200)
    await stack.restart()
    await stack.apply('bank', 'waits', GOOD)
    await stack.says('bank/waits', 'Distributed', 'False PublicationFailed', 60_000)
    expect((await pull()).status).toBe(200)
    const { revisions } = await readIndex()
    await stack.survives(
      async () => {
        await stack.server.request('DELETE', at)
        await eventually(
          'it is signed anew',
          async () => (await readIndex()).revisions[0]!.signature !== revisions[0]!.signature,
          90_000,
        )
      },
      { goodMs: 60_000 },
    )
    await stack.says('bank/waits', 'Distributed', 'True NoProxies', 60_000)
  }, 300_000)
})

describe('the Lease', () => {
  it('that somebody takes or deletes is got back, and publishing goes on', async () => {
    const isLeading = async (): Promise<boolean> => (await stack.metric('signet_operator_leader')) === 1
    await patch(LEASE, { spec: { holderIdentity: 'thief', leaseDurationSeconds: 5 } })
    await eventually('it steps down', async () => !(await isLeading()))
    await eventually('it leads again', isLeading, 60_000)
    await stack.survives(() => Promise.resolve())
    const number = async (): Promise<number> =>
      (await stack.server.request('GET', LEASE)).json<{ spec: { leaseTransitions: number } }>().spec.leaseTransitions
    const before = await number()
    await stack.server.request('DELETE', LEASE)
    await eventually('there is another', async () => (await stack.server.request('GET', LEASE)).status === 200, 30_000)
    await eventually('it leads again', isLeading, 60_000)
    expect(await number()).toBeGreaterThanOrEqual(before)
    await stack.survives(() => Promise.resolve(), { goodMs: 30_000 })
  }, 180_000)
})
