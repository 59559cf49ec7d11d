import type { AuditEvent } from '#core/audit/event.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { retryConflicts, withTenant, type Client, type Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { Action, Extent, Permission, Resource } from '../access/permission.ts'
import { permissionsOf, requireExtent, type Principal } from '../access/principal.ts'
import { endAction, insertAction, markRecorded } from '../store/actions.ts'
import { intentEvent, outcomeEvent, type ActionSubject, type Ending } from './event.ts'

/** Records events at the ledger, one a call; resolves when the event is durable. @throws SignetError LEDGER_UNREACHABLE, LEDGER_REFUSED */
export type RecordEvent = (tenant: string, event: string) => Promise<void>

export type Request = {
  readonly principal: Principal
  readonly action: Action
  readonly resource: Resource
  readonly resourceId: string | null
  readonly ownCounts: boolean
  /** What is asked for, as the log shall hold it: no secrets. */
  readonly wanted: AuditEvent['after']
  readonly traceId: string
  readonly requestId: string
}

/** What Signet does itself, on a schedule or because something happened: no token, no permission, and a name that says what did it. */
export type SystemRequest = Omit<Request, 'principal' | 'ownCounts'> & {
  readonly tenant: string
  /** `system/scan-schedule` */
  readonly actor: `system/${string}`
}

/** The rights that a change is made with, as they are in its transaction. */
export type Rights = {
  readonly principal: Principal
  readonly tenant: string
  readonly permissions: readonly Permission[]
  readonly extent: Extent
}

/** `before` and `after` go into the log: no secrets. */
export type Change<T> = {
  readonly result: T
  readonly before: AuditEvent['before']
  readonly after: AuditEvent['after']
  readonly resourceId?: string
  /** Where the outcome is known elsewhere by another name than `governance.outcome`. */
  readonly eventType?: string
  readonly context?: Readonly<Record<string, string>>
}

export type RunnerDeps = {
  readonly pool: Pool
  readonly record: RecordEvent
  readonly newId: () => string
  readonly nowMs: () => number
  readonly log: Logger
  readonly onEnded: (state: Ending['state']) => void
  /** Told of what is done, in its transaction: what it writes is there if and only if the change is. */
  readonly onCommitting?: (client: Client, event: AuditEvent) => Promise<void>
}

const ATTEMPTS = 3

/**
 * Every change goes through here (docs/adr/0080): the intent is in the ledger before anything is changed, the permission is checked in
 * the transaction of the change, and the outcome is in the ledger before there is an answer.
 *
 *   row `intended` ─▶ ledger: intent ─▶ one transaction: permission, change, row `committed` ─▶ ledger: outcome ─▶ row recorded
 *
 * Whatever dies in between, the sweeper (`sweeper.ts`) completes: an intent without its change is reverted, an outcome that the ledger
 * does not have yet is sent.
 */
export class ActionRunner {
  readonly #deps: RunnerDeps

  constructor(deps: RunnerDeps) {
    this.#deps = deps
  }

  /**
   * @throws SignetError FORBIDDEN, UNAUTHENTICATED (the permission, or the token, is not there at the time of the write), LEDGER_UNREACHABLE
   * (nothing was changed), OUTCOME_PENDING (the change is made, the ledger does not know of its outcome yet), what `change` throws
   */
  async run<T>(request: Request, change: (client: Client, rights: Rights) => Promise<Change<T>>): Promise<T> {
    const subject = this.#subjectOf(request)
    const { tenant } = subject
    await this.#checkFirst(request, subject)
    return this.#perform(subject, request.wanted, async (client) => {
      const { principal } = request
      const permissions = await permissionsOf(client, principal, true)
      const extent = requireExtent(principal, permissions, request)
      return change(client, { principal, tenant, permissions, extent })
    })
  }

  /** The same for what nobody asked for just now. @throws SignetError LEDGER_UNREACHABLE, OUTCOME_PENDING, what `change` throws */
  async runAsSystem<T>(request: SystemRequest, change: (client: Client) => Promise<Change<T>>): Promise<T> {
    const { tenant, actor } = request
    return this.#perform(this.#subject(request, tenant, actor), request.wanted, change)
  }

  async #perform<T>(
    subject: ActionSubject,
    wanted: AuditEvent['after'],
    change: (client: Client) => Promise<Change<T>>,
  ): Promise<T> {
    const { pool, nowMs } = this.#deps
    const { tenant, id } = subject
    const startedMs = nowMs()
    const intent = JSON.stringify(intentEvent(subject, wanted, startedMs))
    const made = { tenant, id, action: subject.action, resource: subject.resource, principal: subject.actor }
    await withTenant(pool, tenant, (client) =>
      insertAction(client, { ...made, state: 'intended', intent, outcome: null }),
    )
    await this.#recordIntent(subject, intent, startedMs)

    let result: T
    let outcome = ''
    try {
      // Two who change each other's rights at once may be a deadlock: one of them is done again, and finds what the other did.
      result = await retryConflicts(ATTEMPTS, () =>
        withTenant(pool, tenant, async (client) => {
          const changed = await change(client)
          const { result: _, ...said } = changed
          const event = outcomeEvent(subject, { ...said, state: 'committed', latencyMs: nowMs() - startedMs }, nowMs())
          outcome = JSON.stringify(event)
          await this.#deps.onCommitting?.(client, event)
          if (!(await endAction(client, tenant, id, 'committed', outcome)))
            throw new SignetError('ACTION_REVERTED', 'this took so long that it was given up; nothing was changed')
          return changed.result
        }),
      )
    } catch (error) {
      await this.#endWithout(subject, error, startedMs)
      throw error
    }
    this.#deps.onEnded('committed')
    await this.#recordOutcome(subject, outcome)
    return result
  }

  /** Something was refused before anything was meant to be done. Durable even where the ledger does not answer: the sweeper sends it. */
  async deny(request: Request, error: SignetError): Promise<void> {
    await this.#settle(this.#subjectOf(request), { state: 'denied', reason: reasonOf(error), latencyMs: 0 })
  }

  /**
   * An action without an intent: what it changes makes nothing possible before there is an answer (a sign-in), or it is refused. The row, and
   * the change, are in one transaction; the outcome is in the ledger before this resolves, or, for a denial, waits for the sweeper.
   * @throws SignetError OUTCOME_PENDING, what `change` throws
   */
  async settle(
    subject: Omit<ActionSubject, 'id'>,
    ending: Omit<Ending, 'latencyMs'> & { readonly startedMs: number },
    change?: (client: Client) => Promise<void>,
  ): Promise<void> {
    const { startedMs, ...rest } = ending
    const latencyMs = this.#deps.nowMs() - startedMs
    await this.#settle({ ...subject, id: this.#deps.newId() }, { ...rest, latencyMs }, change)
  }

  /** Whoever has no permission now leaves no intent, only the denial. */
  async #checkFirst(request: Request, subject: ActionSubject): Promise<void> {
    const { principal } = request
    const permissions = await withTenant(
      this.#deps.pool,
      subject.tenant,
      (client) => permissionsOf(client, principal, false),
      { readOnly: true },
    )
    try {
      requireExtent(principal, permissions, request)
    } catch (error) {
      await this.#settle(subject, { state: 'denied', reason: reasonOf(error), latencyMs: 0 })
      throw error
    }
  }

  async #recordIntent(subject: ActionSubject, intent: string, startedMs: number): Promise<void> {
    try {
      await this.#deps.record(subject.tenant, intent)
    } catch (error) {
      // The ledger may have it all the same: then it gets the outcome as well, from the sweeper.
      await this.#end(subject, 'reverted', error, startedMs)
      throw error
    }
  }

  /** Nothing was changed: says so in the row, and to the ledger if it listens. Never throws. */
  async #endWithout(subject: ActionSubject, error: unknown, startedMs: number): Promise<void> {
    const isDenial = error instanceof SignetError && (error.code === 'FORBIDDEN' || error.code === 'UNAUTHENTICATED')
    const outcome = await this.#end(subject, isDenial ? 'denied' : 'failed', error, startedMs)
    if (outcome === null) return
    await this.#recordOutcome(subject, outcome).catch((cause: unknown) =>
      this.#deps.log.warn({ error: cause, action_id: subject.id }, 'an outcome waits for the ledger'),
    )
  }

  /** The outcome that stands in the row now; null where that could not be written, or somebody else ended the action. */
  async #end(
    subject: ActionSubject,
    state: 'failed' | 'reverted' | 'denied',
    error: unknown,
    startedMs: number,
  ): Promise<string | null> {
    const { pool, nowMs, log, onEnded } = this.#deps
    const ending = { state, reason: reasonOf(error), latencyMs: nowMs() - startedMs } as const
    const outcome = JSON.stringify(outcomeEvent(subject, ending, nowMs()))
    try {
      const { tenant, id } = subject
      const ended = await withTenant(pool, tenant, (client) => endAction(client, tenant, id, state, outcome))
      if (ended) onEnded(state)
      return ended ? outcome : null
    } catch (cause) {
      log.warn({ error: cause, action_id: subject.id }, 'an action could not be ended; the sweeper will')
      return null
    }
  }

  async #recordOutcome(subject: ActionSubject, outcome: string): Promise<void> {
    const { record, pool } = this.#deps
    try {
      await record(subject.tenant, outcome)
    } catch (cause) {
      const message = `the change is made, but the ledger has not confirmed it yet; see /api/v1/actions/${subject.id}`
      throw new SignetError('OUTCOME_PENDING', message, { cause, details: { action_id: subject.id } })
    }
    // Where this fails the sweeper sends the event again, which the ledger knows.
    await markRecorded(pool, subject.tenant, subject.id).catch((error: unknown) =>
      this.#deps.log.warn({ error, action_id: subject.id }, 'an action that is recorded could not be marked so'),
    )
  }

  async #settle(subject: ActionSubject, ending: Ending, change?: (client: Client) => Promise<void>): Promise<void> {
    const { pool, nowMs, log, onEnded } = this.#deps
    const outcome = JSON.stringify(outcomeEvent(subject, ending, nowMs()))
    const { tenant, id, action, resource, actor: principal } = subject
    await withTenant(pool, tenant, async (client) => {
      await change?.(client)
      await insertAction(client, {
        tenant,
        id,
        state: ending.state,
        action,
        resource,
        principal,
        intent: null,
        outcome,
      })
    })
    onEnded(ending.state)
    await this.#recordOutcome(subject, outcome).catch((cause: unknown) => {
      if (ending.state === 'committed') throw cause
      log.warn({ error: cause, action_id: id }, 'a denial waits for the ledger')
    })
  }

  #subjectOf(request: Request): ActionSubject {
    return this.#subject(request, request.principal.tenant, request.principal.name)
  }

  #subject(request: Omit<SystemRequest, 'tenant' | 'actor'>, tenant: string, actor: string): ActionSubject {
    const { action, resource, resourceId, traceId, requestId } = request
    return {
      id: this.#deps.newId(),
      tenant,
      actor,
      action: `${resource}.${action}`,
      resource: resourceId === null ? resource : `${resource}/${resourceId}`,
      resourceType: resource,
      resourceId,
      traceId,
      requestId,
    }
  }
}

function reasonOf(error: unknown): { code: string; detail: string } {
  return error instanceof SignetError
    ? { code: error.code, detail: error.message.slice(0, 300) }
    : { code: 'INTERNAL', detail: 'something went wrong here' }
}
