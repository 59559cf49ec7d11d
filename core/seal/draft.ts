import type { AuditEvent } from '../audit/event.ts'
import { SignetError } from '../error/signet-error.ts'
import type { JsonObject, JsonValue } from '../json/value.ts'
import { findMentions, soughtNames, type SoughtName } from './mention.ts'
import type { SealRules } from './rules.ts'
import { isEmail } from './wrap.ts'

/** The member of `context` that holds what stands nowhere else once it is sealed. */
export const SEALED_MEMBER = 'signet:sealed'
/** The name under which is sealed what is personal and nobody's that the event names. Erasing it erases all of that. */
export const UNATTRIBUTED = 'signet:unattributed'
/** Stands for a `resource` that names more people than fit. */
export const HIDDEN_RESOURCE = 'sealed:v1'
/** People that one event may name: each costs a row. What names more of them is sealed as a whole, for those that came first. */
export const MAX_NAMES = 16
const MAX_RESOURCE_CHARS = 4_096
const MAX_RESOURCE_ID_CHARS = 2_048
/**
 * Values that are sealed one by one in `before`, `after` or `context`. A part that has more is sealed whole: each costs 15 µs and some 150
 * bytes, so that an item of a mebibyte would become a record of fourteen.
 */
export const MAX_VALUES = 500
/** How deep a value may stand to be sealed by itself: a record is read back 64 deep, and is two around the event and two within a sealed value. */
const MAX_DEPTH = 61
/** Members of `context` that the ledger itself goes by: they stay readable where the rest of it is sealed whole. */
const KEPT_MEMBERS = ['regulations']
/** A reference is so much longer than the shortest address that it can replace. */
const REF_CHARS = 44

/** A place whose value waits for the subjects of its names. */
export type Hole =
  /** The text is the name: a reference takes its place. */
  | { readonly as: 'name'; readonly path: string; readonly name: string }
  /** A text with names in it: references take their places. */
  | { readonly as: 'text'; readonly path: string; readonly pieces: readonly (string | { readonly name: string })[] }
  /** The value is sealed under the keys of all the names. */
  | { readonly as: 'box'; readonly path: string; readonly names: readonly string[]; readonly value: JsonValue }
export type Put = (value: JsonValue) => void

/** An event whose personal members are found and not sealed yet. `holes` lead into `event`, which is a copy where they do. */
export type SealDraft = {
  readonly event: AuditEvent
  readonly names: ReadonlySet<string>
  readonly holes: readonly (readonly [Hole, Put])[]
}

/**
 * Finds what is personal in an event; the event itself stays as it is. Null where nothing is.
 * @throws SignetError AUDIT_EVENT_INVALID for a `context` with the member that only sealing writes
 */
export function draftSealing(event: AuditEvent, rules: SealRules): SealDraft | null {
  if (event.context !== undefined && Object.hasOwn(event.context, SEALED_MEMBER))
    throw new SignetError(
      'AUDIT_EVENT_INVALID',
      `/event/context/${SEALED_MEMBER} is a member that only the ledger writes`,
    )
  const drafter = new Drafter(event, rules)
  drafter.run()
  return drafter.holes.length === 0 ? null : { event: drafter.event, names: drafter.names, holes: drafter.holes }
}

/** A value that is to be put where it stands once it can be. */
class Waiting {
  readonly hole: Hole
  constructor(hole: Hole) {
    this.hole = hole
  }
}

class Drafter {
  readonly names = new Set<string>()
  readonly holes: [Hole, Put][] = []
  readonly event: AuditEvent
  readonly #rules: SealRules
  /** People whose names are looked for in all texts. */
  readonly #people: readonly SoughtName[]
  #aside: Record<string, JsonValue> | undefined
  /** Whether something has to be sealed deeper than a record may be. */
  #isTooDeep = false
  /** Whom the event is about. */
  readonly #owner: string | null

  constructor(event: AuditEvent, rules: SealRules) {
    this.event = { ...event }
    this.#rules = rules
    const { actor, resource_id: id, resource_type: type, context } = event
    const person = rules.isPerson(actor) ? actor : null
    const resource = id !== undefined && rules.isPersonResource(id, type) ? id : null
    const subject = context?.['data_subject']
    const stated = typeof subject === 'string' && rules.isPerson(subject) ? subject : null
    this.#owner = stated ?? resource ?? person
    const people = [stated, resource, person].filter((name) => name !== null)
    this.#people = soughtNames(people)
    // First of all: an actor and a resource can be nothing but a reference.
    this.#taken(people)
  }

  run(): void {
    const { event } = this
    if (this.#rules.isPerson(event.actor))
      this.#at(this.#named('/actor', event.actor), (value) => (event.actor = value as string))
    for (const part of ['before', 'after'] as const) {
      const next = this.#part(event[part] as JsonValue, `/${part}`)
      if (next === event[part]) continue
      const put = (value: JsonValue): void => void (event[part] = value)
      if (next instanceof Waiting) this.#at(next.hole, put)
      else put(next)
    }
    this.#context()
    this.#resourceId()
    this.#text('/resource', event.resource, MAX_RESOURCE_CHARS, (value) => (event.resource = value))
  }

  #resourceId(): void {
    const { event } = this
    const { resource_id: id, resource_type: type } = event
    if (id === undefined) return
    if (this.#rules.isPersonResource(id, type) && id.length <= MAX_RESOURCE_ID_CHARS)
      this.#at(this.#named('/resource_id', id), (value) => (event.resource_id = value as string))
    else this.#text('/resource_id', id, MAX_RESOURCE_ID_CHARS, (value) => (event.resource_id = value))
  }

  /** Names in a text become references; the text as it was is kept, sealed, beside. */
  #text(path: string, text: string, maxChars: number, put: (text: string) => void): void {
    const mentions = findMentions(text, this.#people)
    if (mentions.length === 0) return
    const names = this.#taken(mentions.map(({ name }) => name))
    const fits = names.length === new Set(mentions.map(({ name }) => name)).size
    if (!fits || text.length + mentions.length * REF_CHARS > maxChars) put(HIDDEN_RESOURCE)
    else {
      const pieces: (string | { name: string })[] = []
      let last = 0
      for (const { start, end, name } of mentions) {
        pieces.push(text.slice(last, start), { name })
        last = end
      }
      pieces.push(text.slice(last))
      this.#at({ as: 'text', path, pieces }, (value) => put(value as string))
    }
    this.#setAside(this.#boxed(path, text, names))
  }

  #context(): void {
    const { event } = this
    if (event.context === undefined) return
    const next = this.#part(event.context as JsonValue, '/context')
    if (next === event.context) return
    // It has to stay an object: what has to be sealed as a whole goes aside.
    event.context = next instanceof Waiting ? this.#keptOf(event.context) : (next as Record<string, unknown>)
    if (next instanceof Waiting) this.#setAside(next.hole)
  }

  /** Codes only: a text that could be anything else is sealed with the rest. */
  #keptOf(context: Readonly<Record<string, unknown>>): Record<string, unknown> {
    const isCode = (code: unknown): boolean => typeof code === 'string' && /^[A-Z][A-Z0-9_-]{0,63}$/.test(code)
    return Object.fromEntries(
      KEPT_MEMBERS.flatMap((name) => {
        const value = Object.hasOwn(context, name) ? context[name] : undefined
        return Array.isArray(value) && value.length <= MAX_VALUES && value.every(isCode) ? [[name, value]] : []
      }),
    )
  }

  /** As `#walk`; a part with too much in it, or too deep in it, is a hole for the whole, for everybody whom it names. */
  #part(value: JsonValue, path: string): JsonValue | Waiting {
    const before = this.holes.length
    this.#isTooDeep = false
    const next = this.#walk(value, path, 'plain', 1)
    if (this.holes.length - before <= MAX_VALUES && !this.#isTooDeep) return next
    const names = new Set<string>()
    for (const [hole] of this.holes.splice(before)) {
      if (hole.as === 'name') names.add(hole.name)
      if (hole.as === 'box') for (const name of hole.names) names.add(name)
    }
    return new Waiting(this.#boxed(path, value, [...names]))
  }

  /** Keeps a sealed value in the context, under the path that it stood at. */
  #setAside(hole: Hole): void {
    const { event } = this
    const aside = (this.#aside ??= {})
    this.#at(hole, (value) => {
      aside[hole.path] = value
      event.context = { ...event.context, [SEALED_MEMBER]: aside }
    })
  }

  /** The value, a copy with holes in it, or a hole for the whole. `kind`: what the name of the member says; `depth`: names in `path`. */
  #walk(value: JsonValue, path: string, kind: ReturnType<SealRules['kindOf']>, depth: number): JsonValue | Waiting {
    if (value === null || value === '' || typeof value === 'boolean') return value
    if (kind === 'personal') return new Waiting(this.#boxed(path, value, []))
    if (typeof value === 'string') return this.#string(value, path, kind)
    if (typeof value === 'number') return kind === 'identifier' ? new Waiting(this.#boxed(path, value, [])) : value
    if (Array.isArray(value)) return this.#copied(value, [...value.entries()], path, () => kind, depth + 1)
    const names = Object.keys(value)
    const named = names.flatMap((name) => findMentions(name, this.#people).map((mention) => mention.name))
    if (named.length > 0) return new Waiting(this.#boxed(path, value, named))
    return this.#copied(value, Object.entries(value), path, (name) => this.#rules.kindOf(String(name)), depth + 1)
  }

  #copied<T extends JsonValue[] | JsonObject>(
    value: T,
    members: readonly (readonly [string | number, JsonValue])[],
    path: string,
    kindOf: (name: string | number) => ReturnType<SealRules['kindOf']>,
    depth: number,
  ): T {
    let copy: T | undefined
    for (const [name, member] of members) {
      const next = this.#walk(member, `${path}/${escaped(name)}`, kindOf(name), depth)
      if (next === member) continue
      if (depth > MAX_DEPTH && next instanceof Waiting && next.hole.as === 'box') this.#isTooDeep = true
      const holder = (copy ??= shallow(value) as T)
      // Never an assignment: `__proto__` is a name like any other.
      const put = (shown: JsonValue): void =>
        void Object.defineProperty(holder, name, { value: shown, writable: true, enumerable: true, configurable: true })
      if (next instanceof Waiting) this.#at(next.hole, put)
      else put(next)
    }
    return copy ?? value
  }

  #string(text: string, path: string, kind: 'identifier' | 'plain'): JsonValue | Waiting {
    const isName = kind === 'identifier' && (isEmail(text) || !/@|%40/.test(text))
    const mentions = isName ? [] : findMentions(text, this.#people)
    if (mentions.length > 0) {
      const named = mentions.map(({ name }) => name)
      return new Waiting(this.#boxed(path, text, named))
    }
    if (kind === 'plain') return text
    // Longer than any name can be, it is something else about somebody.
    if (text.length > 512) return new Waiting(this.#boxed(path, text, []))
    return this.#rules.isPerson(text) ? new Waiting(this.#named(path, text)) : text
  }

  #named(path: string, name: string): Hole {
    const [taken] = this.#taken([name])
    return taken === undefined ? this.#boxed(path, name, []) : { as: 'name', path, name }
  }

  /** Sealed for whom it names and whom the event is about: erasing one of them makes it unreadable. */
  #boxed(path: string, value: JsonValue, named: readonly string[]): Hole {
    const names = this.#taken(this.#owner === null ? named : [this.#owner, ...named])
    return { as: 'box', path, names: names.length > 0 ? names : this.#taken([UNATTRIBUTED], true), value }
  }

  /** Those of the names that the event may have, each once. */
  #taken(names: readonly string[], always = false): string[] {
    const taken = [...new Set(names)].filter((name) => always || this.names.has(name) || this.names.size < MAX_NAMES)
    for (const name of taken) this.names.add(name)
    return taken
  }

  #at(hole: Hole, put: Put): void {
    this.holes.push([hole, put])
  }
}

function shallow(value: JsonValue[] | JsonObject): JsonValue[] | JsonObject {
  return Array.isArray(value) ? [...value] : { ...value }
}

/** A name in a JSON Pointer (RFC 6901). */
function escaped(name: string | number): string {
  return String(name).replaceAll('~', '~0').replaceAll('/', '~1')
}
