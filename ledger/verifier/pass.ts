import { faultOf, chainBroken, type FoundFault } from '#core/chain/fault.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { ArchivedHeads } from '#runtime/archive/checkpoints.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import { readHead } from '#runtime/wall/chain.ts'
import { poolReader, type WallReader } from '#runtime/wall/reader.ts'
import { readLastCheckpoint, readLastIntegrated, readTenants } from '#runtime/wall/tree.ts'
import { verifyChain } from '#runtime/wall/verify-chain.ts'
import { verifyTree } from '#runtime/wall/verify-tree.ts'
import type { LedgerKeys } from '../keys.ts'
import {
  claimVerification,
  releaseVerification,
  saveVerification,
  type VerificationCursor,
} from '../store/verification.ts'
import { chainKeys, logKeys } from '../verify.ts'

export type PassDeps = {
  readonly wall: Pool
  readonly work: Pool
  readonly keys: LedgerKeys
  readonly origin: string
  /** What an archive holds the tree to; absent where there is none. @throws SignetError where it cannot be read */
  readonly archived?: () => Promise<ArchivedHeads>
  readonly clock: () => Date
  /** Names this process among those that share the work database: a UUID. */
  readonly holder: string
  /** Awaited between batches, with the milliseconds that the last one took: where low priority comes from. */
  readonly pause: (busyMs: number) => Promise<void>
}

/** What a step found. `tenant`: whose chain; null for the tree. */
export type Step =
  | { readonly outcome: 'busy' }
  | { readonly outcome: 'rests' }
  | { readonly outcome: 'chain'; readonly tenant: string; readonly links: number; readonly fault: FoundFault | null }
  | {
      readonly outcome: 'tree'
      readonly size: number
      readonly pass: number
      readonly fault: FoundFault | null
      /** The archive's last checkpoint, in leaves (0: it has none); why it was not read; null where there is no archive. */
      readonly archive: { readonly newest: number } | { readonly error: SignetError } | null
    }

/** Links of one step, and how long a process has the word: much longer than a step takes. */
const STEP_LINKS = 20_000
const CLAIM_MS = 5 * 60_000
/** A small store is not verified more often than this. */
const REST_MS = 10_000
const MAX_TRACES = 20_000

/**
 * Verifies chain after chain from the beginning, then the tree, then begins again: what was sound yesterday may have been changed since.
 * One step at a time, each from where the last one, of whichever process, had come to. A fault in one chain is reported, and the pass
 * goes on with the next.
 */
export class VerificationPasses {
  readonly #deps: PassDeps
  readonly #reader: WallReader

  constructor(deps: PassDeps) {
    this.#deps = deps
    this.#reader = poolReader(deps.wall)
  }

  /** @throws SignetError DATABASE_UNAVAILABLE; `signal.reason` when it aborts */
  async step(signal: AbortSignal): Promise<Step> {
    const { work, holder, clock } = this.#deps
    const cursor = await claimVerification(work, holder, CLAIM_MS)
    if (cursor === null) return { outcome: 'busy' }
    if (cursor.phase === 'tree') return this.#tree(cursor, signal)
    const rested = cursor.passEndedAt === null ? Infinity : clock().getTime() - cursor.passEndedAt.getTime()
    // A time that is still to come is of a clock that was wrong: no reason to wait.
    if (cursor.tenant === null && rested >= 0 && rested < REST_MS) return { outcome: 'rests' }
    const tenants = await this.#reader.inTree((client) => readTenants(client))
    const known = tenants.find((name) => name === cursor.tenant)
    // The tenant of the cursor may be gone: somebody took all of it away, which the tree will say.
    const current = known ?? tenants[0]
    if (current === undefined) return this.#tree(cursor, signal)
    return this.#chain(current, known === undefined ? { ...cursor, seq: 0, hash: null } : cursor, tenants, signal)
  }

  /** Lets another process go on. */
  async release(): Promise<void> {
    await releaseVerification(this.#deps.work, this.#deps.holder)
  }

  async #chain(
    tenant: string,
    cursor: VerificationCursor,
    tenants: readonly string[],
    signal: AbortSignal,
  ): Promise<Step> {
    const { keys, work, holder } = this.#deps
    const head = await this.#reader.inTenant(tenant, (client) => readHead(client, tenant))
    const to = Math.min(head.seq, cursor.seq + STEP_LINKS)
    const toEnd = to === head.seq
    let links = 0
    let end = { seq: cursor.seq, hash: cursor.hash }
    const fault = await this.#attempt(async (paced) => {
      if (head.seq < cursor.seq)
        throw chainBroken(head.seq + 1, 'truncate', `the chain ends at ${head.seq}, and was sound up to ${cursor.seq}`)
      end = await verifyChain(this.#reader, chainKeys(keys), {
        tenant,
        fromSeq: cursor.seq + 1,
        toSeq: to,
        toEnd,
        knownHeads: cursor.hash === null ? [] : [{ seq: cursor.seq, hash: cursor.hash.toString('hex') }],
        maxTraces: MAX_TRACES,
        signal,
        onProgress: async (done) => {
          links = done
          await paced()
        },
      })
      const inTree = toEnd ? await this.#reader.inTree((client) => readLastIntegrated(client, tenant)) : 0
      if (inTree > to) {
        const now = await this.#reader.inTenant(tenant, (client) => readHead(client, tenant))
        if (inTree > now.seq)
          throw chainBroken(now.seq + 1, 'truncate', `the links end at ${now.seq}, the tree has them to ${inTree}`)
      }
    })
    const next = tenants[tenants.indexOf(tenant) + 1] ?? null
    const done = fault !== null || toEnd
    const after: VerificationCursor = {
      ...cursor,
      phase: next === null ? 'tree' : 'chains',
      tenant: next,
      seq: 0,
      hash: null,
    }
    await saveVerification(work, holder, done ? after : { ...cursor, tenant, seq: end.seq, hash: end.hash })
    return { outcome: 'chain', tenant, links, fault }
  }

  async #tree(cursor: VerificationCursor, signal: AbortSignal): Promise<Step> {
    const { keys, origin, work, holder, clock } = this.#deps
    // Before the tree is read: what is archived meanwhile would seem to be missing from it.
    const archived = await this.#archived()
    const last = await this.#reader.inTree((client) => readLastCheckpoint(client))
    const size = last?.size ?? 0
    const fault = await this.#attempt(async (paced) => {
      const external = archived === null || 'error' in archived ? [] : archived.heads
      const task = { logKeys: logKeys(keys), origin, external, upTo: size, signal, onProgress: paced }
      await verifyTree(this.#reader, task)
    })
    const pass = cursor.pass + 1
    await saveVerification(work, holder, {
      phase: 'chains',
      tenant: null,
      seq: 0,
      hash: null,
      pass,
      passEndedAt: clock(),
    })
    const archive =
      archived === null || 'error' in archived
        ? archived
        : { newest: archived.newest === null ? 0 : archived.newest.size }
    return { outcome: 'tree', size, pass, fault, archive }
  }

  /** What cannot be read keeps the tree from nothing but being compared with it. */
  async #archived(): Promise<ArchivedHeads | { readonly error: SignetError } | null> {
    const { archived } = this.#deps
    if (archived === undefined) return null
    try {
      return await archived()
    } catch (error) {
      if (error instanceof SignetError) return { error }
      throw error
    }
  }

  /** Runs a verification, which pauses after each batch and keeps the word meanwhile. Gives the fault, if it finds one. */
  async #attempt(verify: (paced: () => Promise<void>) => Promise<void>): Promise<FoundFault | null> {
    const { pause, work, holder } = this.#deps
    let since = performance.now()
    let claimedAt = since
    try {
      await verify(async () => {
        await pause(performance.now() - since)
        since = performance.now()
        if (since - claimedAt > CLAIM_MS / 4) {
          await claimVerification(work, holder, CLAIM_MS)
          claimedAt = since
        }
      })
      return null
    } catch (error) {
      const fault = faultOf(error)
      if (fault === null) throw error
      return fault
    }
  }
}
