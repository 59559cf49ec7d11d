import { SignetError } from '../error/signet-error.ts'

/**
 * What was done to a chain or to the tree, as far as it tells:
 * `edit` a record or a column was changed; `delete` something is missing; `insert` something was put in; `reorder` links changed
 * places; `truncate` the end is missing; `wrong-key` nothing of this key verifies; `fork` the key made two links, or two trees, for
 * one place; `rollback` the store is sound, and older than what it had signed.
 */
export type ChainFault = 'edit' | 'delete' | 'insert' | 'reorder' | 'truncate' | 'wrong-key' | 'fork' | 'rollback'

/** The first bad place. `seq`: of a link; `leaf`: of the tree, where the tree is at fault. */
export type FoundFault = {
  readonly seq: number
  readonly leaf?: number
  readonly fault: ChainFault
  readonly detail: string
}

type States = { expected?: Record<string, unknown>; found?: Record<string, unknown>; cause?: unknown }

/** CHAIN_BROKEN with `details {seq, fault, expected, found}`. */
export function chainBroken(seq: number, fault: ChainFault, what: string, states: States = {}): SignetError {
  const { cause, ...both } = states
  return new SignetError('CHAIN_BROKEN', `the chain is broken at link ${seq} (${fault}): ${what}`, {
    cause,
    details: { seq, fault, ...both },
  })
}

/** CHAIN_BROKEN of the tree: `leaf` is the first that is not what was signed; `seq` 0, since it is of no one chain. */
export function treeBroken(leaf: number, fault: ChainFault, what: string, states: States = {}): SignetError {
  const { cause, ...both } = states
  return new SignetError('CHAIN_BROKEN', `the tree is broken at leaf ${leaf} (${fault}): ${what}`, {
    cause,
    details: { seq: 0, leaf, fault, ...both },
  })
}

/** What a CHAIN_BROKEN names; null for any other error, and for one that names no place. */
export function faultOf(error: unknown): FoundFault | null {
  if (!(error instanceof SignetError) || error.code !== 'CHAIN_BROKEN') return null
  const { seq, leaf, fault } = (error.details ?? {}) as Partial<FoundFault>
  if (seq === undefined || fault === undefined) return null
  return { seq, ...(leaf === undefined ? {} : { leaf }), fault, detail: error.message }
}
