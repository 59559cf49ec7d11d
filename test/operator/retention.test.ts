import { writeFile } from 'node:fs/promises'
import { randomUUID } from 'node:crypto'
import path from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startApiServer, type TestApiServer } from '#test/support/api-server.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import {
  eventually,
  OPERATOR_NAMESPACE,
  startOperatorProcess,
  type OperatorProcess,
} from '#test/support/operator-process.ts'
import { buildLines, createClient } from '#test/support/producer.ts'

let server: TestApiServer
let operator: OperatorProcess
let stack: LedgerStack
let admin: pg.Client
const file = (): string => path.join(stack.dir, 'policies.json')

beforeAll(async () => {
  stack = await startLedgerStack({ ledgers: 0 })
  admin = new pg.Client(stack.wall.adminUrl)
  await admin.connect()
  server = await startApiServer({ crds: true })
  await server.createNamespace(OPERATOR_NAMESPACE)
  operator = await startOperatorProcess(server, 'operator')
  await operator.listening
  await stack.startLedger({ env: { SIGNET_LEDGER_RETENTION_POLICIES: file() } })
})
afterAll(async () => {
  await operator?.kill()
  await server?.stop()
  await admin?.end()
  await stack?.stop()
})

/** As the kubelet does, which mounts the ConfigMap into the ledger. Gives the names of the policies. */
async function mount(): Promise<string[]> {
  const answer = await server.request(
    'GET',
    `/api/v1/namespaces/${OPERATOR_NAMESPACE}/configmaps/signet-retention-policies`,
  )
  if (answer.status !== 200) return []
  const text = answer.json<{ data: { 'policies.json': string } }>().data['policies.json']
  await writeFile(file(), text)
  return (JSON.parse(text) as { policies: { name: string }[] }).policies.map(({ name }) => name)
}

async function classOf(): Promise<string | undefined> {
  const client = createClient(stack.ledgers[0]?.url ?? '', stack.token('proxy'))
  const { acks } = await client.append(buildLines(randomUUID(), 1, 1, { data_domain: 'payments' }))
  const { rows } = await admin.query<{ retention_class: string }>(
    'SELECT retention_class FROM signet.records WHERE event_id = $1',
    [acks[0]?.event_id],
  )
  return rows[0]?.retention_class
}

it('a RetentionPolicy of kubectl decides of which class a record becomes', async () => {
  // While the ledger waits for the platform's policies nothing gets a time to go.
  expect(await classOf()).toBe('default')
  const policy = {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'RetentionPolicy',
    metadata: { name: 'payments', namespace: OPERATOR_NAMESPACE },
    spec: { selector: { dataDomains: ['payments'] }, hot: '90d', archive: '7y' },
  }
  await server.kubectl(['apply', '-f', '-'], JSON.stringify(policy))
  await eventually('the policy is published', async () => (await mount()).includes('payments'))
  await eventually('new records are of its class', async () => (await classOf()) === 'h90_a2562')
  const changes = async (): Promise<string[]> => {
    const { rows } = await admin.query<{ policy: { name: string } | null }>(
      `SELECT convert_from(bytes, 'UTF8')::jsonb #> '{event,context,policy}' AS policy FROM signet.records
        WHERE tenant = 'acme' AND event_type = 'audit.retention.changed' ORDER BY seq`,
    )
    return rows.map(({ policy }) => policy?.name ?? 'gone')
  }
  await eventually('it is in the chain', async () => (await changes()).join() === 'payments')

  await server.kubectl(['delete', 'retentionpolicy', 'payments', '-n', OPERATOR_NAMESPACE])
  await eventually('the policy is gone', async () => !(await mount()).includes('payments'))
  await eventually('new records are kept', async () => (await classOf()) === 'default')
  await eventually('that is in the chain too', async () => (await changes()).join() === 'payments,gone')
})
