import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { GovernanceStack } from '#test/support/governance.ts'
import { operationsOf, sampleOf, type OpenApiDocument, type Operation } from '#test/support/openapi.ts'
import { makeTenantRows, type TenantRows } from './tenant-rows.ts'
import { startWholeStack } from './whole-stack.ts'

/**
 * An administrator of globex tries every call of the OpenAPI document on rows of acme: by its path, and by whatever its body or its query refers
 * to. What is tried comes from the document, so that a new call is attacked from its first day, or this fails and says what it needs.
 */
let whole: Awaited<ReturnType<typeof startWholeStack>>
let stack: GovernanceStack
let owner: pg.Client
let theirs: TenantRows
let ours: TenantRows
let operations: readonly Operation[]
beforeAll(async () => {
  whole = await startWholeStack()
  stack = whole.stack
  theirs = await makeTenantRows(stack, 'acme')
  ours = await makeTenantRows(stack, 'globex')
  operations = operationsOf((await stack.call('acme', 'GET', '/openapi.json')).body as OpenApiDocument)
  owner = new pg.Client(stack.adminUrl)
  await owner.connect()
})
afterAll(async () => {
  await owner?.end()
  await whole?.stop()
})

/** What is not one tenant's: there the path leads nowhere else, and the answer holds nothing of theirs. */
const NAMED_BY_ANYBODY = new Set([
  'GET /api/v1/regulations/{reg}/controls',
  'GET /api/compliance/reference/{kind}',
  // Makes one's own record under the same key.
  'PUT /api/compliance/reference/{kind}/{key}',
])
/** Names of members that hold an id of something else, whatever it is. */
const IS_REFERENCE = /(_id|_ids|^assigned_to|^against)$/
/** Names of members that look so, and are names that the caller gives, or nothing of the database. */
const NO_REFERENCE = new Set(['org_id', 'trace_id', 'request_id', 'resource_id', 'id'])
/** They change by themselves: what is under way is completed, and what is told is told. */
const MOVING_TABLES = new Set(['actions', 'webhook_deliveries', 'remediation_history'])

type Sent = { readonly path?: Record<string, string>; readonly query?: Record<string, string>; readonly body?: unknown }

async function ask(operation: Operation, { path = {}, query = {}, body }: Sent) {
  const filled = operation.path.replaceAll(/\{(\w+)\}/g, (_all, name: string) => encodeURIComponent(path[name] ?? ''))
  const search = new URLSearchParams(query).toString()
  const isFile = operation.files.length > 0
  const response = await fetch(`${stack.process().url}${filled}${search === '' ? '' : `?${search}`}`, {
    method: operation.method,
    headers: {
      authorization: `Bearer ${stack.token('globex')}`,
      ...(isFile ? { 'content-type': 'application/pdf' } : {}),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(isFile ? { body: '%PDF-1.7\n%%EOF\n' } : {}),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return { status: response.status, text: await response.text() }
}

/** What is right in form, with references to rows of `rows`. */
function partsOf(operation: Operation, rows: TenantRows): Sent {
  const query = operation.parameters
    .filter((one) => one.in === 'query' && one.required === true)
    .map(({ name, schema }) => [name, rows.values[name] ?? String(sampleOf(schema))])
  const body = operation.body === null ? undefined : sampleOf(operation.body)
  return {
    path: { ...rows.parametersOf(operation.path) },
    query: Object.fromEntries(query) as Record<string, string>,
    ...(body === undefined ? {} : { body: rows.filled(body, operation.body!) }),
  }
}

function isReference(name: string): boolean {
  return IS_REFERENCE.test(name) && !NO_REFERENCE.has(name)
}

/** Every table that has a tenant, as a digest of that tenant's rows in it. */
async function digests(tenant: string): Promise<Record<string, string>> {
  const { rows } = await owner.query<{ name: string }>(
    `SELECT table_name AS name FROM information_schema.columns WHERE table_schema = 'signet' AND column_name = 'tenant' ORDER BY 1`,
  )
  const found: Record<string, string> = {}
  for (const { name } of rows.filter((one) => !MOVING_TABLES.has(one.name))) {
    const { rows: digest } = await owner.query<{ digest: string }>(
      `SELECT count(*) || ' ' || md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) AS digest FROM signet."${name}" t WHERE tenant = $1`,
      [tenant],
    )
    found[name] = digest[0]?.digest ?? ''
  }
  return found
}

/** Once what was begun before has come to its end: the same twice, a few seconds apart. */
async function settledDigests(tenant: string): Promise<Record<string, string>> {
  let before = ''
  await expect
    .poll(
      async () => {
        const now = JSON.stringify(await digests(tenant))
        const isSame = now === before
        before = now
        return isSame
      },
      { timeout: 90_000, interval: 3_000 },
    )
    .toBe(true)
  return JSON.parse(before) as Record<string, string>
}

/** What of theirs an answer holds that was not in the question. */
function leaked(text: string, sent: Sent): string[] {
  const question = JSON.stringify(sent)
  return theirs.secrets.filter((secret) => text.includes(secret) && !question.includes(secret))
}

/** Each attack, as it ended where it should not have. */
async function attack(): Promise<{ faults: string[]; count: number }> {
  const faults: string[] = []
  let count = 0
  const attempt = async (operation: Operation, what: string, sent: Sent, want: (status: number) => boolean) => {
    count += 1
    const { status, text } = await ask(operation, sent)
    if (!want(status)) faults.push(`${operation.name} with ${what} answers ${status}: ${text.slice(0, 200)}`)
    for (const secret of leaked(text, sent)) faults.push(`${operation.name} with ${what} tells ${secret}`)
  }
  const isList = (operation: Operation): boolean => operation.method === 'GET' && !operation.path.includes('{')
  // Lists first: afterwards our own log has what we tried. Then what takes away, before something of ours is made under their name.
  for (const operation of operations.filter(isList))
    await attempt(operation, 'nothing', partsOf(operation, ours), (status) => status === 200 || status === 404)
  const deletes = operations.filter(({ method }) => method === 'DELETE')
  for (const operation of [...deletes, ...operations.filter(({ method }) => method !== 'DELETE')]) {
    const own = partsOf(operation, ours)
    if (operation.path.includes('{')) {
      const path = { ...theirs.parametersOf(operation.path) }
      const isFree = NAMED_BY_ANYBODY.has(operation.name)
      await attempt(operation, 'their path', { ...own, path }, (status) => (isFree ? status === 200 : status === 404))
    }
    for (const name of Object.keys(operation.body?.properties ?? {}).filter(isReference)) {
      const schema = operation.body!.properties![name]!
      const reference = theirReference(operation, name)
      const body = { ...(own.body as object), [name]: schema.type === 'array' ? [reference] : reference }
      // Whatever it says, it is not done.
      await attempt(operation, `their ${name}`, { ...own, body }, (status) => status >= 400 && status < 500)
    }
    for (const { name } of operation.parameters.filter((one) => one.in === 'query' && isReference(one.name))) {
      const companion = name === 'principal_id' ? { principal_kind: 'user' } : {}
      const query = { ...own.query, ...companion, [name]: theirReference(operation, name) }
      // A filter that nothing passes, or a reference to what is not there.
      await attempt(operation, `their ${name}`, { ...own, query }, (status) => status === 200 || status === 404)
    }
  }
  return { faults, count }
}

function theirReference(operation: Operation, name: string): string {
  const reference = theirs.values[name]
  if (reference === undefined)
    throw new Error(`${operation.name} refers to something by ${name}: say in tenant-rows.ts to what`)
  return reference
}

it('no call reads or changes another tenant’s rows, whatever it names', { timeout: 300_000 }, async () => {
  const before = await settledDigests('acme')
  const { faults, count } = await attack()
  expect(faults).toEqual([])
  expect(count).toBeGreaterThan(90)
  expect(await digests('acme')).toEqual(before)
})

it('the rows are there, for their own tenant: what was asked for was worth it', async () => {
  const statuses: [string, number][] = []
  for (const operation of operations.filter(({ method, path }) => method === 'GET' && path.includes('{'))) {
    const parameters = theirs.parametersOf(operation.path)
    const url = operation.path.replaceAll(/\{(\w+)\}/g, (_all, name: string) => parameters[name] ?? '')
    const query = operation.path.endsWith('/differences') ? `?against=${theirs.values['scan_id']}` : ''
    statuses.push([operation.name, (await stack.call('acme', 'GET', `${url}${query}`)).status])
  }
  expect(statuses.filter(([, status]) => status !== 200)).toEqual([])
  expect(statuses.length).toBeGreaterThan(15)
})
