import { createHash } from 'node:crypto'
import type { JWK } from 'jose'
import type { JsonObject } from '#core/json/value.ts'
import { bundleRevision, type BundleModule } from '#engine/bundle/build.ts'
import { canonicalText, sha256Hex } from '#engine/bundle/canonical.ts'
import { bundleContent, signBundle } from '#engine/bundle/sign.ts'
import { compileRuleSet, createCompileCache, type CompileCache } from '#engine/compile/rule-set.ts'
import type { RuleSource } from '#engine/compile/compile.ts'
import { newTraceId } from '#runtime/identifier.ts'
import { query, withTenant, type Client, type Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { ActionRunner } from '../actions/runner.ts'
import { policyRule, type CompilerDeps } from '../policies/compile.ts'
import { deleteRevisions, insertRevision, latestRevision, type RevisionHead } from '../store/bundles.ts'
import { activePolicies, type ActivePolicy } from '../store/policies.ts'

export type PublisherDeps = {
  readonly pool: Pool
  readonly runner: ActionRunner
  readonly compiler: CompilerDeps
  /** The shipped rules, which are part of every bundle: as Rego, and compiled. */
  readonly pack: { readonly sources: readonly RuleSource[]; readonly modules: readonly BundleModule[] }
  /** Private P-256 JWK; null: nothing is published (in a cluster the operator does it). */
  readonly key: JWK | null
  /** `data.policy` of a tenant's bundle, read in the transaction of `client`. */
  readonly policyData: (client: Client, tenant: string) => Promise<JsonObject>
  readonly clock: () => Date
  readonly newId: () => string
  readonly log: Logger
  readonly onPublished?: (outcome: 'published' | 'failed') => void
}

/**
 * A bundle for each tenant: the shipped rules, its policies that are in force, and its policy data. Level-based: what is stored is compared with
 * what should be, at each touch and every half minute, by every process; the sequence in the table decides between two that are as fast.
 */
export type BundlePublisher = {
  /** Something that a tenant's bundle is made of has changed. Returns at once. */
  touch(tenant: string): void
  /** Brings one tenant's bundle up to date. @throws SignetError */
  publish(tenant: string): Promise<void>
  stop(): Promise<void>
}

const LIFETIME_MS = 30 * 24 * 60 * 60 * 1000
const LOOK_MS = 30_000
const KEPT_REVISIONS = 10
const COMPILE_TIMEOUT_MS = 60_000
const CACHED_RULES = 2_000

export function createBundlePublisher(deps: PublisherDeps): BundlePublisher {
  const { pool, log, key } = deps
  const cache = createCompileCache({ maxEntries: CACHED_RULES })
  const packDigest = sha256Hex(Buffer.concat(deps.pack.modules.map(({ wasm }) => wasm)))
  const dirty = new Set<string>()
  let running: Promise<void> | null = null
  let stopped = false

  async function drain(): Promise<void> {
    for (const tenant of dirty) {
      if (stopped) return
      dirty.delete(tenant)
      try {
        await publish(tenant)
      } catch (error) {
        deps.onPublished?.('failed')
        log.error({ error, tenant }, 'the bundle of a tenant is not published; it is tried again')
      }
    }
  }

  function run(): void {
    if (key === null || stopped) return
    running ??= drain().finally(() => {
      running = null
      if (dirty.size > 0) run()
    })
  }

  async function publish(tenant: string): Promise<void> {
    if (key === null) return
    const now = deps.clock()
    const { policies, policy, last } = await withTenant(
      pool,
      tenant,
      async (client) => ({
        policies: await activePolicies(client, tenant),
        policy: await deps.policyData(client, tenant),
        last: await latestRevision(client, tenant),
      }),
      { readOnly: true },
    )
    const inputs = inputsDigest(packDigest, policies, policy)
    if (last !== null && last.inputs_sha256 === inputs && !isHalfOver(last, now)) return
    const { modules, problems } = await modulesOf(deps, cache, tenant, policies)
    const names = policies.map(({ rule_id, number }) => `${rule_id}@${number}`)
    const traceId = newTraceId()
    const request = {
      tenant,
      actor: 'system/bundle-publisher',
      action: 'execute',
      resource: 'policies',
      resourceId: null,
      wanted: { bundle: inputs, policies: names.slice(0, 100) },
      traceId,
      requestId: traceId,
    } as const
    await deps.runner.runAsSystem(request, async (client) => {
      const newest = await latestRevision(client, tenant)
      // Another process was faster, perhaps with less than is stored now: looked at again at once.
      if (newest?.sequence !== last?.sequence) {
        dirty.add(tenant)
        return { result: undefined, before: null, after: { revision: newest?.revision ?? null } }
      }
      // At least the time: a proxy that had another source of bundles before takes this one as newer.
      const sequence = Math.max(Number(last?.sequence ?? 0) + 1, Math.floor(now.getTime() / 1000))
      const expiresAt = new Date(now.getTime() + LIFETIME_MS)
      const options = { modules, policy, scope: '*', sequence, issuedAt: now, expiresAt }
      const bundle = await signBundle({ ...options, key })
      const revision = bundleRevision(bundleContent(options))
      await insertRevision(client, tenant, {
        sequence: String(sequence),
        revision,
        inputs_sha256: inputs,
        bundle,
        etag: `"${sha256Hex(bundle)}"`,
        problems,
        issued_at: now,
        expires_at: expiresAt,
      })
      await deleteRevisions(client, tenant, KEPT_REVISIONS)
      return {
        result: undefined,
        before: { revision: last?.revision ?? null },
        after: { revision, problems: Object.keys(problems).slice(0, 100) },
        resourceId: revision,
      }
    })
    deps.onPublished?.('published')
    log.info({ tenant, policies: policies.length, problems }, 'bundle published')
  }

  const look = async (): Promise<void> => {
    try {
      const rows = await query<{ tenant: string }>(pool, 'SELECT tenant FROM signet.tenant_names() AS t(tenant)')
      for (const { tenant } of rows) dirty.add(tenant)
      run()
    } catch (error) {
      log.warn({ error }, 'the tenants whose bundles are looked at cannot be read; it is tried again')
    }
  }
  const timer = key === null ? null : setInterval(() => void look(), LOOK_MS)
  if (key !== null) void look()

  return {
    touch(tenant) {
      dirty.add(tenant)
      run()
    },
    publish,
    async stop() {
      stopped = true
      if (timer !== null) clearInterval(timer)
      await running
    },
  }
}

async function modulesOf(
  { compiler, pack }: PublisherDeps,
  cache: CompileCache,
  tenant: string,
  policies: readonly ActivePolicy[],
): Promise<{ modules: readonly BundleModule[]; problems: Record<string, string> }> {
  if (policies.length === 0 || compiler.opa === undefined) {
    const missing = policies.map(({ rule_id }) => [rule_id, 'this governance has no OPA (SIGNET_OPA)'])
    return { modules: pack.modules, problems: Object.fromEntries(missing) as Record<string, string> }
  }
  const { module, problems } = await compileRuleSet({
    scope: 'root',
    rules: policies.map((policy) => policyRule(policy, tenant)),
    files: pack.sources,
    opa: compiler.opa,
    memory: compiler.memory.root,
    timeoutMs: COMPILE_TIMEOUT_MS,
    cache,
  })
  const said = [...problems].map(([id, found]) => [id, found[0]?.message.slice(0, 500) ?? 'it does not compile'])
  return {
    modules: [{ module: module.module, wasm: module.wasm }],
    problems: Object.fromEntries(said) as Record<string, string>,
  }
}

function inputsDigest(packDigest: string, policies: readonly ActivePolicy[], policy: JsonObject): string {
  const versions = policies.map(({ rule_id, number }) => [rule_id, number])
  return createHash('sha256')
    .update(canonicalText(['governance-bundle-v1', packDigest, versions, policy]))
    .digest('hex')
}

function isHalfOver({ issued_at, expires_at }: RevisionHead, now: Date): boolean {
  return now.getTime() > (issued_at.getTime() + expires_at.getTime()) / 2
}
