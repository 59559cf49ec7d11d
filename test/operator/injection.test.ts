import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { injectPod } from '#core/injection/inject.ts'
import { requiredSettings, settings } from '#core/injection/injection.fixture.ts'
import { readPod, type PodObject } from '#core/injection/pod.ts'
import type { InjectionSettings } from '#core/injection/settings.ts'
import { startApiServer, type TestApiServer } from '../support/api-server.ts'

/*
 * Every fixture of `core/injection`, injected, is a pod that a real API server takes; and what comes back, with the server's own
 * defaults in it, is found to be injected already.
 */
let server: TestApiServer
const FOLDER = path.resolve(import.meta.dirname, '../../core/injection/fixtures')
const names = readdirSync(FOLDER)
  .filter((file) => file.endsWith('.in.yaml'))
  .map((file) => file.slice(0, -'.in.yaml'.length))

beforeAll(async () => {
  server = await startApiServer()
  await server.createNamespace('payments')
  for (const name of names) {
    const { serviceAccountName, serviceAccount } = load(name).pod.spec
    const account = serviceAccountName ?? serviceAccount
    if (account !== undefined) await server.createServiceAccount('payments', account)
  }
})
afterAll(() => server.stop())

function load(name: string): { pod: PodObject; settings: InjectionSettings } {
  const [change, given] = parseAllDocuments(readFileSync(path.join(FOLDER, `${name}.in.yaml`), 'utf8')).map(
    (document) => document.toJS() as object,
  )
  return { pod: readPod(given), settings: settings(change) }
}

const create = (pod: PodObject): ReturnType<TestApiServer['request']> =>
  server.request('POST', '/api/v1/namespaces/payments/pods?dryRun=All&fieldValidation=Strict', pod)

describe.each(names)('%s', (name) => {
  const { pod, settings: own } = load(name)
  it.each([
    { as: 'its namespace says', how: own },
    {
      as: 'a namespace that requires Signet would',
      how: requiredSettings({ ...own.namespace, labels: { 'signet.dev/required': 'true' } }),
    },
  ])('is taken, injected as $as', async ({ how }) => {
    const before = await create(pod)
    expect(before.text).toContain('"kind":"Pod"')
    const { pod: injected, eligibility } = injectPod(pod, how)
    const answer = await create(injected)
    expect(answer.text).toContain('"kind":"Pod"')
    expect(answer.status).toBe(201)
    if (eligibility.verdict !== 'inject') return
    // As an offline-injected template comes to the webhook: completed by the server.
    const stored = answer.json<Record<string, unknown>>()
    expect(injectPod(readPod(stored), how).patch).toEqual([])
  })
})
