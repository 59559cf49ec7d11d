import type { Accepted } from './accept.ts'
import { CODINGS, codingsOf, type Coding } from './coding.ts'
import { CodingFault } from './fault.ts'

/** How an answer came, and how it leaves. */
export type AnswerCoding = {
  /** As applied by the service, first to last; empty for identity. */
  readonly received: readonly Coding[]
  /** What a whole answer leaves in; null for identity. */
  readonly leaves: Coding | null
  /** Whether the client takes it as it came. */
  readonly taken: boolean
}

/** Came plain and leaves plain. */
export const PLAIN: AnswerCoding = { received: [], leaves: null, taken: true }

/** Came in a coding that cannot be removed: passes as it came, where that is allowed at all. */
export const UNREADABLE: AnswerCoding = { received: [], leaves: null, taken: true }

/**
 * The coding of an answer with this status and Content-Encoding.
 * @throws CodingFault where it cannot be removed
 */
export function answerCoding(stated: string | undefined, status: number, accepted: Accepted): AnswerCoding {
  if (stated === undefined && accepted.identity) return PLAIN
  const received = stated === undefined ? [] : codingsOf(stated)
  if (received.length > 0 && status === 206)
    throw new CodingFault('partial', 'The service sent a part of a coded content, which cannot be decoded')
  return chosenCoding(received, accepted)
}

/**
 * As it came where the client takes that; else in what it likes best; else plain. An answer that came plain stays so, unless that is
 * what the client excludes: whether compressing is safe (BREACH) is the service's to say.
 */
function chosenCoding(received: readonly Coding[], accepted: Accepted): AnswerCoding {
  if (received.length === 0) return accepted.identity ? PLAIN : { received, leaves: preferred(accepted), taken: false }
  const taken = received.every((coding) => accepted.weights[coding] > 0)
  const leaves = taken && received.length === 1 ? (received[0] as Coding) : preferred(accepted)
  return { received, leaves, taken }
}

function preferred({ weights }: Accepted): Coding | null {
  let best: Coding | null = null
  for (const coding of CODINGS) if (weights[coding] > (best === null ? 0 : weights[best])) best = coding
  return best
}
