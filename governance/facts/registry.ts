import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject, JsonValue } from '#core/json/value.ts'
import type { KubernetesApi } from '#runtime/kubernetes/api.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import { unstorable } from '../http/storable.ts'
import { findAccessFacts } from '../store/facts.ts'
import { findDatabaseFacts, findUserFacts, type UserFacts } from '../store/scan-facts.ts'
import { readJson } from './http.ts'
import { gatherNamespaces, kubernetesFacts } from './kubernetes.ts'
import { certificateOf } from './tls.ts'

export type FactDeps = {
  readonly pool: Pool
  readonly ledger: { readonly url: string; readonly read: (path: string, tenant: string) => Promise<unknown> }
  /** Endpoints whose certificates may be looked at, and URLs that may be read, by name: nobody scans what the platform did not name. */
  readonly endpoints: ReadonlyMap<string, { readonly host: string; readonly port: number }>
  readonly urls: ReadonlyMap<string, string>
  /** Namespaces that a tenant's scans may look at; null: none of anybody. */
  readonly kubernetes: {
    readonly api: KubernetesApi
    readonly namespaces: ReadonlyMap<string, readonly string[]>
  } | null
  readonly nowMs: () => number
}

/** Facts of one organisation, by name: `database`, `access`, … `user` is not among them: those are a list. */
export type Gathered = {
  readonly facts: Readonly<Record<string, JsonValue>>
  readonly users: readonly UserFacts[]
  /** Facts that could not be had, and why. */
  readonly problems: Readonly<Record<string, string>>
}

const TIMEOUT_MS = 5_000

/** What each handler tells; docs/scans.md has the same. */
const HANDLERS: Readonly<Record<string, (deps: FactDeps, tenant: string) => Promise<JsonValue>>> = {
  database: ({ pool }, tenant) => withTenant(pool, tenant, (client) => findDatabaseFacts(client), { readOnly: true }),
  access: accessFacts,
  ledger: ledgerFacts,
  tls: async (deps) => {
    const names = [...deps.endpoints]
    const seen = await Promise.all(
      names.map(async ([name, at]) => [name, await certificateOf(at, deps.nowMs())] as const),
    )
    return Object.fromEntries(seen)
  },
  http: async (deps) => {
    const seen = await Promise.all([...deps.urls].map(async ([name, url]) => [name, await readJson(url)] as const))
    return Object.fromEntries(seen)
  },
  kubernetes: async ({ kubernetes }, tenant) => {
    const names = kubernetes?.namespaces.get(tenant) ?? []
    if (kubernetes === null || names.length === 0)
      throw new SignetError('KUBERNETES_UNAVAILABLE', 'the platform has named no namespace that is this tenant’s')
    return kubernetesFacts(await gatherNamespaces(kubernetes.api, names, AbortSignal.timeout(TIMEOUT_MS)))
  },
}

/** Gathers what `wanted` names (`database`, `user`; of one user, where `userId` is given): each within five seconds, and none of them keeps the others back. */
export async function gatherFacts(
  deps: FactDeps,
  tenant: string,
  wanted: ReadonlySet<string>,
  userId?: string,
): Promise<Gathered> {
  const facts: Record<string, JsonValue> = {}
  const problems: Record<string, string> = {}
  await Promise.all(
    Object.entries(HANDLERS)
      .filter(([name]) => wanted.has(name))
      .map(async ([name, handler]) => {
        try {
          const value = await within(handler(deps, tenant))
          const unfit = unstorable(value)
          if (unfit === null) facts[name] = value
          else problems[name] = `it ${unfit}`
        } catch (error) {
          problems[name] = error instanceof SignetError ? error.message.slice(0, 300) : 'it could not be read'
        }
      }),
  )
  const users = wanted.has('user')
    ? await withTenant(deps.pool, tenant, (client) => findUserFacts(client, tenant, userId ?? null), { readOnly: true })
    : []
  return { facts, users, problems }
}

async function accessFacts({ pool }: FactDeps, tenant: string): Promise<JsonObject> {
  const { tables, users, tokens, roles, bindings, actions } = await withTenant(
    pool,
    tenant,
    (client) => findAccessFacts(client, tenant),
    { readOnly: true },
  )
  const isAdmin = ({ permissions }: { permissions: readonly { action: string; resource: string }[] }): boolean =>
    permissions.some(({ action, resource }) => action === '*' && resource === '*')
  return {
    users: users.length,
    active_users: users.filter(({ active }) => active).length,
    administrators: users.filter((user) => user.active && isAdmin(user)).length,
    users_without_mfa: users.filter(({ active, mfa }) => active && !mfa).length,
    roles: roles.length,
    role_bindings: bindings,
    active_tokens: tokens.active,
    longest_token_days: tokens.longestDays,
    oldest_open_action_ms: actions.oldestOpenMs ?? 0,
    tables_without_row_security: tables.filter(({ forced }) => !forced).length,
  }
}

async function ledgerFacts({ ledger }: FactDeps, tenant: string): Promise<JsonObject> {
  const page = (await ledger.read('/api/audit/logs?limit=1', tenant)) as { items?: { seq?: unknown }[] }
  const newest = Number(page.items?.[0]?.seq ?? 0)
  const verdict = (await ledger.read(`/api/audit/verify?from_seq=${Math.max(1, newest - 1_999)}`, tenant)) as {
    ok?: unknown
  }
  return { newest_seq: newest, verifies: verdict.ok === true, over_tls: ledger.url.startsWith('https:') }
}

function within<T>(promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(new SignetError('REQUEST_TIMEOUT', `no answer within ${TIMEOUT_MS} ms`)),
      TIMEOUT_MS,
    )
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}
