import type { JsonObject } from '#core/json/value.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import type { EventRow, ViolationRow } from '../store/compliance.ts'
import type { Settings } from '../store/resolution.ts'
import type { Undo } from './undo.ts'

/** What a strategy did, or would do. */
export type Acted = {
  readonly detail: string
  readonly evidence: JsonObject
  /** By an independent look at what it acted on; null: the rule has to be asked again; `waiting`: the rest is for people. */
  readonly isDone: boolean | null | 'waiting'
  /** How it is taken back; left out where nothing was changed. */
  readonly undo?: Undo
  /** The policy data of the tenant's proxies is another now. */
  readonly changesProxies?: boolean
}

/** What every strategy acts with, in the transaction of `client`. */
export type Scene = {
  readonly client: Client
  readonly tenant: string
  readonly violation: ViolationRow
  readonly event: EventRow
  readonly settings: Settings
  /** Says what it would do, and does nothing. */
  readonly dry: boolean
  readonly newId: () => string
  readonly now: Date
}

export const ACTOR = 'system/resolver'
