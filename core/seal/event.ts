import type { AuditEvent } from '../audit/event.ts'
import { canonicalize } from '../canonical/jcs.ts'
import { pae } from '../crypto/pae.ts'
import { SignetError } from '../error/signet-error.ts'
import { parseStrict } from '../json/strict.ts'
import type { JsonObject, JsonValue } from '../json/value.ts'
import { SEAL_NONCE_BYTES, SealKey } from './cipher.ts'
import { SEALED_MEMBER, type Hole, type SealDraft } from './draft.ts'
import { parseSubjectRef, subjectRef } from './rules.ts'

/** A data subject whose key is at hand. */
export type Subject = { readonly subjectId: string; readonly key: SealKey }
/** A data subject as a reader needs it: `null` where the key is gone. */
export type OpenedSubject = { readonly key: SealKey; readonly name: string } | null

/** What stands in place of a sealed value: opened only with the keys of all its subjects, in this order. */
export type SealedValue = { readonly sealed: 'v1'; readonly subjects: readonly string[]; readonly text: string }

/** An event as a reader may see it. `missing`: JSON Pointers into it of what could not be opened, and whose it is. */
export type OpenedEvent = {
  readonly event: AuditEvent
  readonly missing: readonly { readonly path: string; readonly subjects: readonly string[] }[]
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const TEXT = /^[A-Za-z0-9_-]+$/
const MAX_SUBJECTS = 64

/** What a sealed value belongs to: it does not open in another event or at another place. */
function placeOf(tenant: string, eventId: string, path: string): Buffer {
  return pae('SignetV1', 'application/vnd.signet.sealed.v1', tenant, eventId, path)
}

/**
 * Fills the holes of a draft: from then on its event is sealed. `subjectOf` knows all names of the draft.
 * @throws SignetError INTERNAL for a name that `subjectOf` does not know, CANONICAL_VALUE_INVALID
 */
export function finishSealing(
  draft: SealDraft,
  tenant: string,
  subjectOf: (name: string) => Subject | undefined,
  randomBytes: (length: number) => Buffer,
): AuditEvent {
  const known = (name: string): Subject => {
    const subject = subjectOf(name)
    if (subject === undefined) throw new SignetError('INTERNAL', 'a personal field has no data subject')
    return subject
  }
  // Where a search finds them: in columns and in the words of the context; `before` and `after` are in neither.
  const found = new Set<string>()
  const hidden = new Set<string>()
  const note = (path: string, subjectId: string): void => {
    const set = path.startsWith('/before') || path.startsWith('/after') ? hidden : found
    set.add(subjectId)
  }
  const refOf = (name: string, path: string): string => {
    const { subjectId } = known(name)
    note(path, subjectId)
    return subjectRef(subjectId)
  }
  const filled = (hole: Hole): JsonValue => {
    if (hole.as === 'name') return refOf(hole.name, hole.path)
    if (hole.as === 'text')
      return hole.pieces.map((piece) => (typeof piece === 'string' ? piece : refOf(piece.name, hole.path))).join('')
    // Two ways to write one name are one subject, which counts once.
    const subjects = [...new Map(hole.names.map((name) => [known(name).subjectId, known(name)])).values()]
    const key = SealKey.joint(subjects.map((subject) => subject.key))
    const plain = Buffer.from(canonicalize(hole.value), 'utf8')
    const text = key.seal(plain, placeOf(tenant, draft.event.event_id, hole.path), randomBytes(SEAL_NONCE_BYTES))
    for (const { subjectId } of subjects) note(hole.path, subjectId)
    return { sealed: 'v1', subjects: subjects.map(({ subjectId }) => subjectId), text: text.toString('base64url') }
  }
  for (const [hole, put] of draft.holes) put(filled(hole))
  const { event } = draft
  const unlisted = [...hidden].filter((subjectId) => !found.has(subjectId))
  if (unlisted.length > 0) {
    const aside = { ...(event.context?.[SEALED_MEMBER] as JsonObject | undefined), subjects: unlisted }
    event.context = { ...event.context, [SEALED_MEMBER]: aside }
  }
  return event
}

/** Ids of all data subjects that an event refers to, or that something in it is sealed for. */
export function subjectsOf(event: AuditEvent): Set<string> {
  const found = new Set<string>()
  const visit = (value: unknown): void => {
    if (typeof value === 'string') for (const id of refsIn(value)) found.add(id)
    else if (Array.isArray(value)) value.forEach(visit)
    else if (isObject(value)) {
      if (isSealedValue(value)) for (const id of value.subjects) found.add(id)
      else Object.values(value).forEach(visit)
    }
  }
  for (const part of ['actor', 'resource', 'resource_id', 'before', 'after', 'context'] as const) visit(event[part])
  return found
}

/** The event in clear, as far as `subjectOf` has the keys. What somebody put in by hand that looks sealed stays as it is, and is missing. */
export function openEvent(
  event: AuditEvent,
  tenant: string,
  subjectOf: (subjectId: string) => OpenedSubject | undefined,
): OpenedEvent {
  const missing: { path: string; subjects: readonly string[] }[] = []
  const unsealed = (value: SealedValue, path: string): JsonValue | undefined => {
    const keys = value.subjects.map((id) => subjectOf(id)?.key)
    if (keys.every((key) => key !== undefined)) {
      try {
        const plain = SealKey.joint(keys).open(
          Buffer.from(value.text, 'base64url'),
          placeOf(tenant, event.event_id, path),
        )
        return parseStrict(plain)
      } catch {
        // Not sealed for this place, or changed: the same to a reader as one whose key is gone.
      }
    }
    missing.push({ path, subjects: value.subjects })
    return undefined
  }
  const visit = (value: JsonValue, path: string): JsonValue => {
    if (typeof value === 'string') {
      const id = parseSubjectRef(value)
      if (id === null) return value
      const name = subjectOf(id)?.name
      if (name === undefined) missing.push({ path, subjects: [id] })
      return name ?? value
    }
    if (Array.isArray(value)) return value.map((item, index) => visit(item, `${path}/${index}`))
    if (!isObject(value)) return value
    if (isSealedValue(value)) return unsealed(value, path) ?? value
    return Object.fromEntries(
      Object.entries(value).map(([name, member]) => [
        name,
        visit(member, `${path}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`),
      ]),
    )
  }

  const opened: AuditEvent = { ...event }
  const { [SEALED_MEMBER]: aside, ...context } = event.context ?? {}
  opened.actor = visit(event.actor, '/actor') as string
  opened.before = visit(event.before as JsonValue, '/before')
  opened.after = visit(event.after as JsonValue, '/after')
  if (aside !== undefined && Object.keys(context).length === 0) delete opened.context
  else if (event.context !== undefined) opened.context = visit(context as JsonValue, '/context') as JsonObject
  if (event.resource_id !== undefined && !isAside(aside, '/resource_id'))
    opened.resource_id = visit(event.resource_id, '/resource_id') as string
  if (!isObject(aside)) return { event: opened, missing }
  for (const [path, value] of Object.entries(aside)) {
    if (!isSealedValue(value)) continue
    const plain = unsealed(value, path)
    if (plain === undefined) continue
    if (path === '/resource' && typeof plain === 'string') opened.resource = plain
    else if (path === '/resource_id' && typeof plain === 'string') opened.resource_id = plain
    else if (path === '/context' && isObject(plain)) opened.context = plain
  }
  return { event: opened, missing }
}

function isAside(aside: unknown, path: string): boolean {
  return isObject(aside) && Object.hasOwn(aside, path)
}

export function isSealedValue(value: unknown): value is SealedValue {
  if (!isObject(value) || value['sealed'] !== 'v1' || Object.keys(value).length !== 3) return false
  const { subjects, text } = value
  return (
    Array.isArray(subjects) &&
    subjects.length >= 1 &&
    subjects.length <= MAX_SUBJECTS &&
    subjects.every((id) => typeof id === 'string' && UUID.test(id)) &&
    typeof text === 'string' &&
    TEXT.test(text)
  )
}

function refsIn(text: string): string[] {
  if (!text.includes('subject:')) return []
  return [...text.matchAll(/subject:([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/g)].map(([, id]) => id ?? '')
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
