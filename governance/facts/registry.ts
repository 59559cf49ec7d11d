import { connect } from 'node:tls'
import { request } from 'undici'
import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject, JsonValue } from '#core/json/value.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import { unstorable } from '../http/storable.ts'
import { findAccessFacts } from '../store/facts.ts'
import { findDatabaseFacts, findUserFacts, type UserFacts } from '../store/scan-facts.ts'

export type FactDeps = {
  readonly pool: Pool
  readonly ledger: { readonly url: string; readonly read: (path: string, tenant: string) => Promise<unknown> }
  /** Endpoints whose certificates may be looked at, and URLs that may be read, by name: nobody scans what the platform did not name. */
  readonly endpoints: ReadonlyMap<string, { readonly host: string; readonly port: number }>
  readonly urls: ReadonlyMap<string, string>
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
const MAX_BODY = 64 * 1024
const DAY_MS = 86_400_000

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

/** `authorized`: by the authorities of the system. What does not answer is a fact as well. */
function certificateOf({ host, port }: { host: string; port: number }, nowMs: number): Promise<JsonObject> {
  return new Promise((resolve) => {
    const socket = connect(
      { host, port, servername: host, rejectUnauthorized: false, timeout: TIMEOUT_MS - 500 },
      () => {
        const { valid_to } = socket.getPeerCertificate()
        resolve({
          answers: true,
          protocol: socket.getProtocol() ?? 'unknown',
          authorized: socket.authorized,
          days_left: Math.floor((Date.parse(valid_to) - nowMs) / DAY_MS),
        })
        socket.destroy()
      },
    )
    const silent = (): void => {
      resolve({ answers: false })
      socket.destroy()
    }
    socket.once('error', silent)
    socket.once('timeout', silent)
  })
}

async function readJson(url: string): Promise<JsonObject> {
  let status: number
  let text = ''
  let isJson: boolean
  try {
    const answer = await request(url, { headersTimeout: TIMEOUT_MS - 500, bodyTimeout: TIMEOUT_MS - 500 })
    status = answer.statusCode
    isJson = String(answer.headers['content-type'] ?? '').includes('json')
    const decoder = new TextDecoder()
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      text += decoder.decode(chunk, { stream: true })
      if (text.length > MAX_BODY) return { answers: true, status, too_large: true }
    }
    text += decoder.decode()
  } catch {
    return { answers: false }
  }
  if (!isJson) return { answers: true, status }
  try {
    return { answers: true, status, body: JSON.parse(text) as JsonValue }
  } catch {
    return { answers: true, status, is_json: false }
  }
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
