import type { AuditEvent } from '#core/audit/event.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject } from '#core/json/value.ts'
import { bundleRevision, contentDigest, type BundleModule } from '#engine/bundle/build.ts'
import { maxWasmBytes } from '#engine/bundle/layout.ts'
import { MAX_BUNDLE_BYTES } from '#engine/bundle/load.ts'
import { bundleContent, signFiles } from '#engine/bundle/sign.ts'
import type { ActivationGate, CandidateModule } from './activation-gate.ts'
import { decide, withRevision, type Decision, type Situation } from './decide.ts'
import { createOutbox, MAX_OUTBOX } from './outbox.ts'
import { publicationEvent } from './publication-event.ts'
import { nextSequence, type StoredRevision } from './revision.ts'
import { isLabelled, readIndexOrRuin, REVISION, writeIndex, type IndexRecord, type RuinedIndex } from './revisions.ts'
import type { RevisionStore } from './revision-store.ts'
import type { BundleSigner } from './signer.ts'

/** A part of a bundle as compilation left it: a module, none (the namespace has no rules), or a failure that keeps the former one. */
export type ModulePart =
  | { readonly state: 'compiled'; readonly module: CandidateModule }
  | { readonly state: 'none' }
  | { readonly state: 'failed'; readonly error: SignetError }

export type BundleParts = {
  readonly root: ModulePart
  readonly namespace: ModulePart
  /** `data.policy`; default `{}`. */
  readonly policy?: JsonObject
}

export type Publication = {
  /**
   * `published` and `rolled-back`: a new revision; `signed-again`: the same one, valid for longer; `unchanged`; `held`: a rollback is in
   * force, and what the rules say waits; `refused`: nothing could be done, see `problems`.
   */
  readonly outcome: 'published' | 'rolled-back' | 'signed-again' | 'unchanged' | 'held' | 'refused'
  /** In force now; null where there is none yet. */
  readonly revision: string | null
  readonly sequence: number | null
  /** What did not get in, and why. A problem of one part does not keep the other back. */
  readonly problems: readonly PublicationProblem[]
}
export type PublicationProblem = {
  readonly part: 'root' | 'namespace' | 'bundle'
  readonly error: SignetError
}

export type PublisherDeps = {
  readonly store: RevisionStore
  readonly signer: BundleSigner
  /** Compares the decisions of a new module in wasm and in OPA before it may be published. */
  readonly gate: ActivationGate
  /** Records one event at the ledger; resolves when it is durable there. */
  readonly audit: (event: AuditEvent) => Promise<void>
  /** Whose chain the events of publications are in. */
  readonly tenant: string
  /** The leader's term, `Term.number`: a former leader's late write is refused. */
  readonly term: () => number
  /** To be asked right before each write, `Term.holds`. */
  readonly holds?: () => boolean
  readonly now: () => Date
  readonly newId: () => string
  readonly newTraceId: () => string
  /** A bundle is valid for so long, and is signed again at half of it. */
  readonly lifetimeMs: number
  /** Revisions kept a namespace, 10 or more, besides the one asked for. */
  readonly keepRevisions?: number
  readonly observer?: PublisherObserver
}

export type PublisherObserver = {
  published?(namespace: string, publication: Publication): void
  /** What somebody wrote over the index is replaced; the former revisions, and events that were not audited yet, are lost. */
  rewritten?(namespace: string, error: SignetError): void
  auditFailed?(namespace: string, error: unknown): void
}

export type Publisher = {
  /** Brings a namespace's bundle to what the parts say. Level-based: to be called again at will. Rejects when the store does not answer. */
  publish(namespace: string, parts: BundleParts): Promise<Publication>
  /** The same without new rules: expiry, rollback, keys, events not yet audited. */
  upkeep(namespace: string): Promise<Publication>
  /** Sends what the outbox of a namespace holds; resolves when it is empty or the ledger does not answer. */
  deliver(namespace: string): Promise<void>
  /** Resolves when deliveries under way have ended. */
  settled(): Promise<void>
}

const MAX_ATTEMPTS = 8
const KEEP_REVISIONS = 10
/** The JSON of a bundle, and tar, need some of what it may have. */
const MAX_PACKED_BYTES = MAX_BUNDLE_BYTES - (2 << 20)

type Resolved = { readonly modules: readonly BundleModule[]; readonly problems: readonly PublicationProblem[] }
type Signed = Pick<StoredRevision, 'issued_at' | 'expires_at' | 'key_id' | 'signature'>

export function createPublisher(deps: PublisherDeps): Publisher {
  const { store, signer, now, lifetimeMs } = deps
  const keep = Math.max(KEEP_REVISIONS, deps.keepRevisions ?? KEEP_REVISIONS)
  const outbox = createOutbox({
    objects: store.objects,
    audit: deps.audit,
    onFailed: (namespace, error) => deps.observer?.auditFailed?.(namespace, error),
  })

  /** By namespace: the version of the index that we wrote, or found to hold what was signed. */
  const sound = new Map<string, string>()

  async function damageOf(
    namespace: string,
    record: IndexRecord | RuinedIndex | null,
    isKnown: boolean,
  ): Promise<Situation['damage']> {
    if (record === null || record.index === null || !isKnown) return 'none'
    const { resourceVersion } = record.object
    if (sound.get(namespace) !== resourceVersion) {
      try {
        await store.content(`namespace/${namespace}`, record.index.revisions[0]!, await signer.storedTrust())
      } catch (error) {
        if (!(error instanceof SignetError) || !error.code.startsWith('BUNDLE_')) throw error
        return 'content'
      }
      sound.set(namespace, resourceVersion)
    }
    return isLabelled(record) ? 'none' : 'labels'
  }

  async function bring(namespace: string, parts: BundleParts | null): Promise<Publication> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const record = await readIndexOrRuin(store.objects, namespace)
      const resolved = parts === null ? null : await resolve(namespace, parts, record)
      const done = await act(namespace, record, resolved, parts?.policy ?? {})
      if (done === null) continue
      deps.observer?.published?.(namespace, done)
      if (done.outcome === 'published' || done.outcome === 'rolled-back') void outbox.deliver(namespace)
      return done
    }
    throw new SignetError('BUNDLE_UNAVAILABLE', `The index of namespace ${namespace} is being written all the time`)
  }

  /** Which modules the bundle should have: each part as compiled, if it passes the gate; else the one in force. */
  async function resolve(
    namespace: string,
    parts: BundleParts,
    record: IndexRecord | RuinedIndex | null,
  ): Promise<Resolved> {
    const problems: PublicationProblem[] = []
    const inForce = record?.index?.revisions[0]
    const former = async (scope: string): Promise<BundleModule | null> => {
      if (inForce === undefined) return null
      try {
        // It is going to be signed again, so it is believed only on its former signature.
        const { modules } = await store.content(`namespace/${namespace}`, inForce, await signer.storedTrust())
        return modules.find(({ module }) => module.scope === scope) ?? null
      } catch (error) {
        if (!(error instanceof SignetError) || error.code.startsWith('KUBERNETES')) throw error
        problems.push({ part: 'bundle', error })
        return null
      }
    }
    const choose = async (name: 'root' | 'namespace', part: ModulePart): Promise<BundleModule | null> => {
      const scope = name === 'root' ? 'root' : `namespace/${namespace}`
      if (part.state === 'none') return null
      let error: SignetError
      if (part.state === 'failed') error = part.error
      else if (part.module.wasm.length > maxWasmBytes(scope)) error = moduleTooLarge(scope)
      else {
        const failure = await deps.gate.check(part.module)
        if (failure === null) return part.module
        error = failure
      }
      problems.push({ part: name, error })
      return former(scope)
    }
    const root = await choose('root', parts.root)
    const own = await choose('namespace', parts.namespace)
    if (root === null) {
      if (problems.length === 0) {
        problems.push({ part: 'root', error: new SignetError('BUNDLE_INVALID', 'A bundle needs a root module') })
      }
      return { modules: [], problems }
    }
    return { modules: own === null ? [root] : [root, own], problems }
  }

  /** One attempt; null when another writer was faster. */
  async function act(
    namespace: string,
    record: IndexRecord | RuinedIndex | null,
    resolved: Resolved | null,
    policy: JsonObject,
  ): Promise<Publication | null> {
    const scope = `namespace/${namespace}`
    const index = record?.index ?? null
    const inForce = index?.revisions[0]
    const hasContent = resolved !== null && resolved.modules.length > 0
    const wanted = hasContent
      ? { modules: resolved.modules, policy, digest: digestOf(scope, resolved.modules, policy) }
      : null
    const key = await signer.current()
    const knownKeys = new Set((await signer.storedTrust()).keys.map(({ kid }) => kid))
    const isKnownKey = (keyId: string): boolean => keyId === key.kid || knownKeys.has(keyId)
    // Before anything is looked at: what somebody deleted of it is there again.
    if (wanted !== null && wanted.digest === inForce?.digest) await store.put(wanted.modules, policy)
    const damage = await damageOf(namespace, record, inForce !== undefined && isKnownKey(inForce.key_id))
    const isLost = damage === 'content'
    const decision = decide({
      index,
      rollbackTo: record?.rollbackTo,
      wantedDigest: wanted?.digest ?? null,
      term: deps.term(),
      now: now(),
      renewBeforeMs: renewBefore(namespace, lifetimeMs),
      isKnownKey,
      damage,
      maxOutbox: MAX_OUTBOX,
    })
    const problems = [...(resolved?.problems ?? [])]
    const ruin = record !== null && record.index === null ? record.error : null
    // Only from the rules it can be written anew.
    if (ruin !== null && wanted === null) problems.push({ part: 'bundle', error: ruin })
    if (decision.problem !== undefined) problems.push({ part: 'bundle', error: decision.problem })
    const stays = (outcome: Publication['outcome']): Publication => ({
      outcome,
      revision: inForce?.revision ?? null,
      sequence: inForce?.sequence ?? null,
      problems,
    })
    if (decision.action === 'none') return stays(idleOutcome(decision, inForce, hasContent || resolved === null))
    if (deps.holds?.() === false) throw new SignetError('BUNDLE_STALE', 'This replica does not lead any more')

    if (decision.action === 'sign-again') {
      const current = inForce!
      // What has just been compiled is better than what is stored: it needs no old key to be believed.
      const isSame = wanted?.digest === current.digest
      const content = isSame ? wanted : await store.content(scope, current, await signer.storedTrust())
      const signed = await sign(scope, current.sequence, content.modules, content.policy)
      const next = {
        ...index!,
        term: deps.term(),
        revisions: [{ ...current, ...signed }, ...index!.revisions.slice(1)],
      }
      const written = await writeIndex(store.objects, record, namespace, next)
      if (written === null) return null
      sound.set(namespace, written.object.resourceVersion)
      return stays(decision.held ? 'held' : 'signed-again')
    }

    const { target } = decision
    const content = target === undefined ? wanted! : await store.content(scope, target, await signer.storedTrust())
    const { packedBytes, ...refs } = await store.put(content.modules, content.policy)
    // A namespace's own module is too small for this to be its doing.
    if (packedBytes > MAX_PACKED_BYTES) {
      problems.push({ part: 'bundle', error: tooLarge(namespace) })
      return stays('refused')
    }
    const sequence = nextSequence(index, now(), isLost, record?.object.annotations[REVISION])
    const signed = await sign(scope, sequence, content.modules, content.policy)
    const issuedAt = new Date(signed.issued_at)
    const revision: StoredRevision = {
      revision: bundleRevision(
        bundleContent({ ...content, scope, sequence, issuedAt, expiresAt: new Date(signed.expires_at) }),
      ),
      sequence,
      digest: target?.digest ?? wanted!.digest,
      reason: target === undefined ? 'change' : 'rollback',
      ...(target === undefined ? {} : { rolled_back_to: target.revision }),
      published_at: signed.issued_at,
      ...signed,
      ...refs,
      audited: false,
    }
    const event = publicationEvent({
      namespace,
      tenant: deps.tenant,
      revision,
      before: inForce,
      eventId: deps.newId(),
      traceId: deps.newTraceId(),
    })
    const next = withRevision(
      index,
      { scope, term: deps.term(), revision, event },
      { keep, rollbackTo: record?.rollbackTo, isLost },
    )
    if (deps.holds?.() === false) throw new SignetError('BUNDLE_STALE', 'This replica does not lead any more')
    const written = await writeIndex(store.objects, record, namespace, next)
    if (written === null) return null
    sound.set(namespace, written.object.resourceVersion)
    if (ruin !== null) deps.observer?.rewritten?.(namespace, ruin)
    const outcome = target === undefined ? 'published' : 'rolled-back'
    return { outcome, revision: revision.revision, sequence, problems }
  }

  async function sign(
    scope: string,
    sequence: number,
    modules: readonly BundleModule[],
    policy: JsonObject,
  ): Promise<Signed> {
    const key = await signer.current()
    const issuedAt = now()
    const expiresAt = new Date(issuedAt.getTime() + lifetimeMs)
    const { token } = await signFiles({ modules, policy, scope, sequence, issuedAt, expiresAt, key: key.jwk })
    return {
      issued_at: issuedAt.toISOString(),
      expires_at: expiresAt.toISOString(),
      key_id: key.kid,
      signature: token,
    }
  }

  return {
    publish: (namespace, parts) => bring(namespace, parts),
    async upkeep(namespace) {
      const publication = await bring(namespace, null)
      void outbox.deliver(namespace)
      return publication
    },
    deliver: (namespace) => outbox.deliver(namespace),
    settled: () => outbox.settled(),
  }
}

function idleOutcome(
  decision: Decision,
  inForce: StoredRevision | undefined,
  hasContent: boolean,
): Publication['outcome'] {
  if (decision.held) return 'held'
  if (decision.problem !== undefined || inForce === undefined || !hasContent) return 'refused'
  return 'unchanged'
}

function moduleTooLarge(scope: string): SignetError {
  return new SignetError(
    'BUNDLE_INVALID',
    `The module of ${scope} is larger than ${maxWasmBytes(scope) >> 20} MiB; what was in force of it stays`,
  )
}

function tooLarge(namespace: string): SignetError {
  return new SignetError('BUNDLE_INVALID', `The bundle of namespace ${namespace} would be larger than proxies take`)
}

function digestOf(scope: string, modules: readonly BundleModule[], policy: JsonObject): string {
  const epoch = new Date(0)
  return contentDigest(bundleContent({ modules, policy, scope, sequence: 0, issuedAt: epoch, expiresAt: epoch }))
}

/** Half of the lifetime, less for some than for others, so that not all bundles are signed, and pulled, at once. */
export function renewBefore(namespace: string, lifetimeMs: number): number {
  let hash = 0
  for (const character of namespace) hash = (hash * 31 + character.codePointAt(0)!) % 997
  return (lifetimeMs / 2) * (1 - (hash / 997) * 0.2)
}
