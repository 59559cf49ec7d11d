import { setImmediate as nextTurn } from 'node:timers/promises'
import type { AuditEvent } from '#core/audit/event.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { draftSealing, type SealDraft } from '#core/seal/draft.ts'
import { finishSealing, openEvent, subjectsOf, type OpenedEvent, type OpenedSubject } from '#core/seal/event.ts'
import { parseSubjectRef, subjectRef, type SealRules } from '#core/seal/rules.ts'
import { canonicalName } from '#core/seal/wrap.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import { SubjectCache } from './cache.ts'
import { Wrapping, type MasterKeys } from './master.ts'
import { findById, findByIndex, findErased } from './store.ts'
import { Subjects } from './subjects.ts'

/** A place of an opened event that stays closed. `why`: its key was destroyed, does not open, or is not known here (a work database that was lost). */
export type MissingField = {
  readonly path: string
  readonly subjects: readonly string[]
  readonly why: 'erased' | 'damaged' | 'unknown'
}
export type Opened = { readonly event: AuditEvent; readonly missing: readonly MissingField[] }

export type Sealer = {
  /** What counts as personal, now. */
  readonly rules: () => SealRules
  /**
   * The events with their personal fields sealed, in order; an event without any is given back as it is. New data subjects are in the work
   * database when this resolves. An event that cannot be sealed gives its SignetError in its place.
   * @throws SignetError SEAL_KEY_UNAVAILABLE, DATABASE_UNAVAILABLE (a name that was not seen lately needs the work database)
   */
  seal(tenant: string, events: readonly AuditEvent[]): Promise<(AuditEvent | SignetError)[]>
  /**
   * The events in clear, in order, as far as their keys are there at this moment: nothing is remembered, so that what is erased is
   * unreadable in every process from then on. @throws SignetError SEAL_KEY_UNAVAILABLE, DATABASE_UNAVAILABLE
   */
  open(tenant: string, events: readonly AuditEvent[]): Promise<Opened[]>
  /**
   * All forms under which a person's name stands on the wall: the name itself (records from before sealing) and the reference. Takes a name
   * or a reference; what is neither a person's nor known gives itself alone. @throws as `open`
   */
  formsOf(tenant: string, name: string): Promise<readonly string[]>
  /** The reference of a person who is named so, known before or not; what names nobody is given back. @throws as `seal` */
  referenceOf(tenant: string, name: string): Promise<string>
  /** What the work database looks a name up by; null where the tenant has nobody. @throws as `open` */
  indexOf(tenant: string, name: string): Promise<Buffer | null>
  /** Lets this process forget a subject that is erased. */
  forget(tenant: string, subjectId: string): void
  /** That the master keys are the right ones. @throws as `open` */
  check(): Promise<void>
  /** Puts keys under the master key of now; how many. @throws as `open` */
  rewrap(): Promise<number>
}

export type SealerDeps = {
  readonly work: Pool
  readonly masterKeys: MasterKeys
  readonly rules: () => SealRules
  readonly clock: () => Date
  readonly randomBytes: (length: number) => Buffer
  /** Which of these events are in the chain: sending one again must not make an erased person known again. */
  readonly recorded: (tenant: string, eventIds: readonly string[]) => Promise<ReadonlySet<string>>
  /** Monotonic milliseconds. */
  readonly now?: () => number
}

/** Within this time a process may still seal for a subject that another has erased: what it seals then is unreadable, to everybody. */
export const FRESH_MS = 1_000
/** Names and keys stay in memory for this long after they were last looked up. */
const MAX_AGE_MS = 300_000
const MAX_CACHED = 50_000
/**
 * Subjects that one event is opened with: what a ledger sealed names 17 at most. Past them they count as unknown: whatever references a
 * producer makes up, it is its own event that they are too many for.
 */
const MAX_OPENED = 64
const FOUND_A_TIME = 10_000
/** Events differ by a thousand times in what they take: turns are counted in time. */
const TURN_MS = 10
const REWRAPPED_A_TIME = 500

export function createSealer(deps: SealerDeps): Sealer {
  const { work, rules, clock, randomBytes } = deps
  const wrapping = new Wrapping({ masters: deps.masterKeys, clock, randomBytes })
  const now = deps.now ?? (() => performance.now())
  const cache = new SubjectCache({ maxSubjects: MAX_CACHED, freshMs: FRESH_MS, maxAgeMs: MAX_AGE_MS, now })
  const subjects = new Subjects({ work, wrapping, cache, clock, randomBytes })

  /** What each draft is sealed for, and which of the drafts are for nobody, since their events are in the chain. */
  async function subjectsFor(tenant: string, drafts: readonly SealDraft[]) {
    const known = await subjects.find(tenant, namesOf(drafts))
    const isNew = (draft: SealDraft): boolean => [...draft.names].some((name) => !known.has(canonicalName(name)))
    const fresh = drafts.filter(isNew)
    if (fresh.length === 0) return { known, again: new Set<string>() }
    const again = await deps.recorded(
      tenant,
      fresh.map(({ event }) => event.event_id),
    )
    const names = [...namesOf(fresh.filter(({ event }) => !again.has(event.event_id)))].filter(
      (name) => !known.has(name),
    )
    if (names.length > 0) for (const [name, subject] of await subjects.add(tenant, names)) known.set(name, subject)
    return { known, again }
  }

  return {
    rules,
    async seal(tenant, events) {
      const current = rules()
      const sealed: (AuditEvent | SignetError)[] = [...events]
      const drafts: [number, SealDraft][] = []
      const turn = takeTurns()
      for (const [index, event] of events.entries()) {
        const draft = drafted(event, current)
        if (draft instanceof SignetError) sealed[index] = draft
        else if (draft !== null) drafts.push([index, draft])
        await turn()
      }
      if (drafts.length === 0) return sealed
      const { known, again } = await subjectsFor(
        tenant,
        drafts.map(([, draft]) => draft),
      )
      for (const [index, draft] of drafts) {
        const nobody = again.has(draft.event.event_id) ? subjects.throwaway() : undefined
        const subjectOf = (name: string) => known.get(name) ?? known.get(canonicalName(name)) ?? nobody
        sealed[index] = finishSealing(draft, tenant, subjectOf, randomBytes)
        await turn()
      }
      return sealed
    },

    async open(tenant, events) {
      const turn = takeTurns()
      const sought = new Set<string>()
      for (const event of events) {
        for (const id of [...subjectsOf(event)].slice(0, MAX_OPENED)) sought.add(id)
        await turn()
      }
      const keys = new Map<string, OpenedSubject>()
      const damaged = new Set<string>()
      for (const ids of parts([...sought]))
        for (const row of await findById(work, tenant, ids)) {
          const subject = wrapping.tryOpenSubject(tenant, row)
          if (subject === null) damaged.add(row.subjectId)
          else keys.set(row.subjectId, subject)
          await turn()
        }
      const opened: OpenedEvent[] = []
      for (const event of events) {
        opened.push(openEvent(event, tenant, (id) => keys.get(id)))
        await turn()
      }
      const erased = new Set<string>()
      for (const ids of parts([...sought].filter((id) => !keys.has(id) && !damaged.has(id))))
        for (const id of await findErased(work, tenant, ids)) erased.add(id)
      const why = (ids: readonly string[]): MissingField['why'] =>
        ids.some((id) => erased.has(id)) ? 'erased' : ids.some((id) => damaged.has(id)) ? 'damaged' : 'unknown'
      return opened.map(({ event, missing }) => ({
        event,
        missing: missing.map((field) => ({ ...field, why: why(field.subjects) })),
      }))
    },

    async formsOf(tenant, name) {
      const id = parseSubjectRef(name)
      if (id !== null) {
        const [row] = await findById(work, tenant, [id])
        const subject = row === undefined ? null : wrapping.tryOpenSubject(tenant, row)
        return subject === null ? [name] : [name, subject.name]
      }
      const index = await subjects.indexOf(tenant, name)
      const [row] = index === null ? [] : await findByIndex(work, tenant, [index])
      return row === undefined ? [name] : [name, subjectRef(row.subjectId)]
    },

    async referenceOf(tenant, name) {
      if (!rules().isPerson(name)) return name
      const canonical = canonicalName(name)
      const found = (await subjects.find(tenant, [canonical])).get(canonical)
      const subject = found ?? (await subjects.add(tenant, [canonical])).get(canonical)
      return subject === undefined ? name : subjectRef(subject.subjectId)
    },

    indexOf: (tenant, name) => subjects.indexOf(tenant, name),
    forget: (tenant, subjectId) => cache.forget(tenant, subjectId),
    check: () => wrapping.check(work),
    async rewrap() {
      cache.sweep()
      let total = 0
      for (;;) {
        const count = await wrapping.rewrap(work, REWRAPPED_A_TIME)
        total += count
        if (count === 0) return total
      }
    },
  }
}

/** What to wait for between two pieces of work: now and then a turn of the event loop. */
function takeTurns(): () => Promise<void> {
  let since = performance.now()
  return async () => {
    if (performance.now() - since < TURN_MS) return
    await nextTurn()
    since = performance.now()
  }
}

function parts(ids: readonly string[]): string[][] {
  const count = Math.ceil(ids.length / FOUND_A_TIME)
  return Array.from({ length: count }, (_, index) => ids.slice(index * FOUND_A_TIME, (index + 1) * FOUND_A_TIME))
}

/** In canonical form. */
function namesOf(drafts: readonly SealDraft[]): Set<string> {
  const names = new Set<string>()
  for (const draft of drafts) for (const name of draft.names) names.add(canonicalName(name))
  return names
}

function drafted(event: AuditEvent, rules: SealRules): SealDraft | null | SignetError {
  try {
    return draftSealing(event, rules)
  } catch (error) {
    if (error instanceof SignetError) return error
    throw error
  }
}
