import type Type from 'typebox'
import type { Block } from '#core/policy/block.ts'
import type { MatchedBlock } from '#core/policy/decision.ts'
import { compileTemplates } from '#core/policy/templates.ts'
import { ANONYMOUS } from '../http/caller.ts'
import { pathReadings } from '../http/request-target.ts'

type Matched = Type.Static<typeof MatchedBlock>
export type BlockTable = {
  readonly isEmpty: boolean
  /** Whether a block depends on who asks: then an answer is its caller's own. */
  readonly readsCaller: boolean
  /** Blocks in force at `nowMs` of the agent that asks or answers, and of the route in any reading of its path. */
  match(query: { method: string; path: string; caller: string; producerId: string; nowMs: number }): Matched[]
}

type Entry = { readonly data: Block; readonly expiresMs: number }

const NO_BLOCKS: Matched[] = []

export function compileBlocks(blocks: readonly Block[]): BlockTable {
  const entries = blocks.map((data): Entry => ({ data, expiresMs: Date.parse(data.expires_at) }))
  const ofKind = (kind: Block['kind']): Map<string, Entry[]> =>
    Map.groupBy(
      entries.filter(({ data }) => data.kind === kind),
      ({ data }) => data.value,
    )
  const agents = ofKind('agent')
  const routes = ofKind('route')
  const templates = compileTemplates(routes.keys())
  return {
    isEmpty: entries.length === 0,
    readsCaller: agents.size > 0,
    match({ method, path, caller, producerId, nowMs }) {
      if (entries.length === 0) return NO_BLOCKS
      const asked = method === 'HEAD' ? 'GET' : method
      const found: Entry[] = []
      // Nobody in particular is no agent.
      if (caller !== ANONYMOUS.subject) found.push(...(agents.get(caller) ?? []))
      if (producerId !== caller) found.push(...(agents.get(producerId) ?? []))
      if (!templates.isEmpty)
        for (const template of templates.match(pathReadings(path))) {
          const named = routes.get(template) ?? []
          found.push(...named.filter(({ data }) => data.method === undefined || data.method === asked))
        }
      const inForce = found.filter(({ expiresMs }) => expiresMs > nowMs)
      return inForce.length === 0
        ? NO_BLOCKS
        : inForce.slice(0, MAX_MATCHED).map(({ data: { id, kind, expires_at } }) => ({ id, kind, expires_at }))
    },
  }
}

/** One is enough to refuse. */
const MAX_MATCHED = 10
