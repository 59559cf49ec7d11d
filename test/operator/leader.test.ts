import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { KubernetesClient } from '#operator/kubernetes/client.ts'
import { createInformer } from '#operator/kubernetes/informer.ts'
import type { Lease } from '#operator/kubernetes/leader.ts'
import { systemClock } from '#operator/clock.ts'
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

let server: TestApiServer
let client: KubernetesClient
const operators: OperatorProcess[] = []

beforeAll(async () => {
  server = await startApiServer({ crds: true })
  client = administrator(server)
  await server.createNamespace(OPERATOR_NAMESPACE)
  await server.createNamespace('payments')
})
afterEach(async () => {
  await Promise.all(operators.splice(0).map((operator) => operator.kill()))
})
afterAll(async () => {
  await client?.close()
  await server?.stop()
})

async function start(name: string): Promise<OperatorProcess> {
  const operator = await startOperatorProcess(server, name)
  operators.push(operator)
  return operator
}

async function leaders(): Promise<OperatorProcess[]> {
  const flags = await Promise.all(
    operators.map(async (operator) =>
      operator.running ? operator.metric('signet_operator_leader').catch(() => 0) : 0,
    ),
  )
  return operators.filter((_, index) => flags[index] === 1)
}

async function applyRule(name: string): Promise<void> {
  const rule = {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'ComplianceRule',
    metadata: { name, namespace: 'payments' },
    spec: {
      description: 'No server errors',
      severity: 'low',
      conditions: { all: [{ fact: 'response.status', operator: 'lessThan', value: 500 }] },
    },
  }
  await server.kubectl(['apply', '-f', '-'], JSON.stringify(rule))
}

describe('two operators', () => {
  it('one leads, both serve; when the leader is killed the other takes over and goes on where it was', async () => {
    const holders: string[] = []
    const watching = new AbortController()
    const leases = createInformer<Lease>({
      name: 'test',
      client,
      path: `/apis/coordination.k8s.io/v1/namespaces/${OPERATOR_NAMESPACE}/leases`,
      keep: (lease) => lease,
      onChange: ({ after }) => {
        const holder = after?.spec?.holderIdentity?.split('_')[0] ?? ''
        if (holders.at(-1) !== holder) holders.push(holder)
      },
      clock: systemClock,
      random: Math.random,
    })
    const watched = leases.run(watching.signal)
    const rules = followRules(client)
    await start('first')
    await eventually('the first leads', async () => (await leaders()).length === 1)
    await start('second')
    await applyRule('before')
    // Both, though only one is the authority: the other has the certificate from the Secret.
    for (const operator of operators) {
      await operator.listening
      await eventually(`${operator.name} is ready`, async () => (await operator.readiness()) === 'ready')
    }
    await eventually(
      'the rule is compiled',
      () => condition(rules.latest('payments/before'), 'Compiled') === 'True Compiled',
    )
    expect((await leaders()).map(({ name }) => name)).toEqual(['first'])

    const killedAt = performance.now()
    await operators[0]!.kill()
    await applyRule('after')
    let most = 0
    await eventually('the second leads', async () => {
      const now = await leaders()
      most = Math.max(most, now.length)
      return now[0]?.name === 'second'
    })
    // Not before the lease of 3 s has run out; soon after it.
    expect(performance.now() - killedAt).toBeLessThan(8_000)
    expect(most).toBe(1)
    await eventually(
      'the rule is compiled',
      () => condition(rules.latest('payments/after'), 'Compiled') === 'True Compiled',
    )
    expect(holders).toEqual(['first', 'second'])

    // A leader that is told to stop gives the lease back: nobody has to wait for it to run out.
    await start('third')
    await eventually('the third is ready', async () => (await operators[2]!.readiness()) === 'ready')
    const stoppedAt = performance.now()
    expect(await operators[1]!.stop()).toBe(0)
    await eventually('the third leads', async () => (await leaders())[0]?.name === 'third')
    expect(performance.now() - stoppedAt).toBeLessThan(2_500)
    expect(holders).toEqual(['first', 'second', '', 'third'])
    await rules.stop()
    watching.abort()
    await watched
  })

  it('start together on a cluster without anything, and make one authority', async () => {
    await server.kubectl(['-n', OPERATOR_NAMESPACE, 'delete', 'lease,secret,configmap', '--all'])
    await Promise.all(['one', 'two', 'three'].map((name) => start(name)))
    for (const operator of operators) await operator.listening
    expect(await leaders()).toHaveLength(1)
    const made = operators.flatMap(({ log }) => log.filter((line) => line['object'] === 'signet-ca'))
    expect(made).toHaveLength(1)
  })
})
