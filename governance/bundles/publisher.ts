import { createHash } from 'node:crypto'
import type { JWK } from 'jose'
import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject } from '#core/json/value.ts'
import { bundleRevision, type BundleModule } from '#engine/bundle/build.ts'
import { canonicalText, sha256Hex } from '#engine/bundle/canonical.ts'
import { bundleContent, signBundle } from '#engine/bundle/sign.ts'
import { compileRuleSet, createCompileCache, type CompileCache } from '#engine/compile/rule-set.ts'
import type { RuleSource } from '#engine/compile/compile.ts'
import { newTraceId } from '#runtime/identifier.ts'
import { withTenant, type Client, type Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { ActionRunner } from '../actions/runner.ts'
import { keepDoingForTenants, type Background } from '../background.ts'
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
  /** A revision is stored. */
  readonly onRevision?: (tenant: string, etag: string) => void
}

/**
 * A bundle for each tenant: the shipped rules, its policies that are in force, and its policy data. Level-based: what is stored is compared with
 * what should be, at each touch and every half minute, by every process; the sequence in the table decides between two that are as fast. What
 * cannot be published whole is not published: the former bundle stays, and it is tried again.
 */
export type BundlePublisher = Background & {
  /** Something that a tenant's bundle is made of has changed. Returns at once. */
  touch(tenant: string): void
  /** Whether the bundle of `head` is made of what is in force now, in the transaction of `client`. */
  isCurrent(client: Client, tenant: string, head: RevisionHead): Promise<boolean>
  /** Why this process could not publish a tenant's bundle the last time that it tried; null where it could. */
  problemOf(tenant: string): string | null
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
  const problems = new Map<string, string>()

  async function inputsOf(client: Client, tenant: string) {
    const policies = await activePolicies(client, tenant)
    const policy = await deps.policyData(client, tenant)
    return { policies, policy, digest: inputsDigest(packDigest, policies, policy) }
  }

  async function publish(tenant: string, signer: JWK): Promise<void> {
    const now = deps.clock()
    const { policies, policy, digest, last } = await withTenant(
      pool,
      tenant,
      async (client) => ({ ...(await inputsOf(client, tenant)), last: await latestRevision(client, tenant) }),
      { readOnly: true },
    )
    if (last !== null && last.inputs_sha256 === digest && !isHalfOver(last, now)) return
    const modules = await modulesOf(deps, cache, tenant, policies)
    const names = policies.map(({ rule_id, number }) => `${rule_id}@${number}`)
    const traceId = newTraceId()
    const request = {
      tenant,
      actor: 'system/bundle-publisher',
      action: 'execute',
      resource: 'policies',
      resourceId: null,
      wanted: { bundle: digest, policies: names.slice(0, 100) },
      traceId,
      requestId: traceId,
    } as const
    const published = await deps.runner.runAsSystem<string | null>(request, async (client) => {
      const newest = await latestRevision(client, tenant)
      // Another process was faster, perhaps with less than is stored now: looked at again at once.
      if (newest?.sequence !== last?.sequence) {
        queue?.touch(tenant)
        return { result: null, before: null, after: { revision: newest?.revision ?? null } }
      }
      // At least the time: a proxy that had another source of bundles before takes this one as newer.
      const sequence = Math.max(Number(last?.sequence ?? 0) + 1, Math.floor(now.getTime() / 1000))
      const expiresAt = new Date(now.getTime() + LIFETIME_MS)
      const options = { modules, policy, scope: '*', sequence, issuedAt: now, expiresAt }
      const bundle = await signBundle({ ...options, key: signer })
      const revision = bundleRevision(bundleContent(options))
      const etag = `"${sha256Hex(bundle)}"`
      await insertRevision(client, tenant, {
        sequence: String(sequence),
        revision,
        inputs_sha256: digest,
        bundle,
        etag,
        issued_at: now,
        expires_at: expiresAt,
      })
      await deleteRevisions(client, tenant, KEPT_REVISIONS)
      return {
        result: etag,
        before: { revision: last?.revision ?? null },
        after: { revision },
        resourceId: revision,
      }
    })
    if (published === null) return
    deps.onRevision?.(tenant, published)
    deps.onPublished?.('published')
    log.info({ tenant, policies: policies.length }, 'bundle published')
  }

  const publishOrSay = async (tenant: string, signer: JWK): Promise<void> => {
    try {
      await publish(tenant, signer)
      problems.delete(tenant)
    } catch (error) {
      problems.set(tenant, error instanceof SignetError ? error.message : 'it failed here; the log has why')
      deps.onPublished?.('failed')
      throw error
    }
  }
  const onError = (error: unknown, tenant: string | null): void =>
    log.error({ error, tenant }, 'a bundle is not published, the former one stays in force; it is tried again')
  const queue =
    key === null
      ? null
      : keepDoingForTenants(pool, (tenant) => publishOrSay(tenant, key), { everyMs: LOOK_MS, firstMs: 0, onError })

  return {
    touch: (tenant) => queue?.touch(tenant),
    isCurrent: async (client, tenant, head) => (await inputsOf(client, tenant)).digest === head.inputs_sha256,
    problemOf: (tenant) => problems.get(tenant) ?? null,
    stop: async () => queue?.stop(),
  }
}

/** @throws SignetError OPA_UNAVAILABLE, RULE_INVALID: a policy does not compile with the others, and no bundle is without one that is in force */
async function modulesOf(
  { compiler, pack }: PublisherDeps,
  cache: CompileCache,
  tenant: string,
  policies: readonly ActivePolicy[],
): Promise<readonly BundleModule[]> {
  if (policies.length === 0) return pack.modules
  if (compiler.opa === undefined)
    throw new SignetError('OPA_UNAVAILABLE', 'this governance has no OPA (SIGNET_OPA): it cannot compile policies')
  const { module, problems } = await compileRuleSet({
    scope: 'root',
    rules: policies.map((policy) => policyRule(policy, tenant)),
    files: pack.sources,
    opa: compiler.opa,
    memory: compiler.memory.root,
    timeoutMs: COMPILE_TIMEOUT_MS,
    cache,
  })
  const said = [...problems].map(([id, [first]]) => `${id}: ${first?.message.slice(0, 300) ?? 'it does not compile'}`)
  if (said.length > 0)
    throw new SignetError('RULE_INVALID', `policies do not compile with the others: ${said.slice(0, 5).join('; ')}`)
  return [{ module: module.module, wasm: module.wasm }]
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
