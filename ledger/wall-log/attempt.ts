/** What a line of the wall's own server log says about somebody who is not the ledger, or about the ledger going further than it may. */
export type Attempt = {
  readonly kind:
    | 'change-refused'
    | 'definition-refused'
    | 'definition-migrated'
    | 'permission-denied'
    | 'connection'
    | 'statement'
    | 'logging-changed'
    | 'log-lost'
  /** Login of the database; null for the server itself. */
  readonly login: string | null
  /** Address, without the port. */
  readonly client: string | null
  /** What it was, without any value in it: `ALTER TABLE signet.links DISABLE TRIGGER ALL`. */
  readonly command: string
  readonly sqlstate: string | null
  readonly at: string
  /** Tells one line from another: session and line of it. */
  readonly line: string
}

/** Whose the wall is: what this login does within its rights is no attempt. */
export type Watched = { readonly database: string; readonly login: string }

const MAX_COMMAND_CHARS = 300
const MAX_NAME_CHARS = 128
const SAID = /^(?:statement|execute [^:]{0,100}|parse [^:]{0,100}|bind [^:]{0,100}): /
/** Statements that change something, or what is logged and refused. Anything else a superuser says is reading. */
const CHANGES =
  /\b(?:ALTER|CREATE|DROP|TRUNCATE|UPDATE|DELETE|INSERT|MERGE|COPY|GRANT|REVOKE|REASSIGN|COMMENT|SECURITY|IMPORT|DO|CALL|LOAD|EXECUTE|VACUUM|CLUSTER|REINDEX|session_replication_role|event_triggers|set_config|log_\w+|lo_\w+|pg_(?:read|write|ls|terminate|reload|rotate|promote)\w*|purge_month|migration)\b/i

/** The attempt that a line (an object of PostgreSQL's jsonlog) tells of; null where it tells of none. Pure; any value may come. */
export function attemptOf(value: unknown, watched: Watched): Attempt | null {
  if (typeof value !== 'object' || value === null) return null
  const text = (name: string): string => {
    const member: unknown = (value as Record<string, unknown>)[name]
    return typeof member === 'string' ? member : ''
  }
  const found = kindOf(text, watched)
  if (found === null) return null
  const lineNumber: unknown = (value as Record<string, unknown>)['line_num']
  return {
    kind: found.kind,
    login: bounded(text('user')),
    client: bounded(text('remote_host')),
    command: redacted(found.command),
    sqlstate: /^[0-9A-Z]{5}$/.test(text('state_code')) ? text('state_code') : null,
    at: text('timestamp').slice(0, 40),
    line: `${text('session_id').slice(0, 64)}/${typeof lineNumber === 'number' ? lineNumber : '?'}`,
  }
}

function kindOf(text: (name: string) => string, watched: Watched): Pick<Attempt, 'kind' | 'command'> | null {
  const message = text('message')
  const statement = text('statement')
  if (/^parameter "(?:log_|logging_|event_triggers|session_replication)\w*" (?:changed|removed)/.test(message))
    return { kind: 'logging-changed', command: message }
  if (text('dbname') !== watched.database) return null
  const ledgers = text('user') === watched.login
  if (text('state_code') === '42501') {
    // A purge that is not due is refused to the ledger every day, and is in the chain already.
    if (ledgers && message.startsWith('purge of ')) return null
    if (message.endsWith(' refused: the audit wall is append-only'))
      return { kind: 'change-refused', command: statement || message }
    if (message.endsWith(' refused: the audit wall is changed by its migrations only'))
      return { kind: 'definition-refused', command: statement || message }
    return { kind: 'permission-denied', command: statement || message }
  }
  if (message.startsWith('signet wall: ')) return { kind: 'definition-migrated', command: message.slice(13) }
  if (ledgers) return null
  if (message.startsWith('connection authorized: ')) return { kind: 'connection', command: 'connect' }
  const said = SAID.exec(message)
  if (said === null) return null
  const sql = message.slice(said[0].length)
  return CHANGES.test(withoutValues(sql)) ? { kind: 'statement', command: sql } : null
}

/** A statement without its values: no literal, no comment, no number, nothing after PASSWORD; in one line, at most 300 characters. */
export function redacted(sql: string): string {
  const plain = withoutValues(sql.slice(0, 16_384))
    .replace(/\bPASSWORD\b[\s\S]*/i, 'PASSWORD ?')
    .replace(/[^\x21-\x7e]+/g, ' ')
    .trim()
  return plain.length > MAX_COMMAND_CHARS ? `${plain.slice(0, MAX_COMMAND_CHARS - 1)}~` : plain
}

/**
 * Literals, dollar-quoted bodies, comments and numbers become `?`. What is not closed goes to the end: rather too much than a secret.
 * Where `\'` could be an end or not, it is none: what follows up to the next quote goes as well. (https://www.postgresql.org/docs/18/sql-syntax-lexical.html)
 */
function withoutValues(sql: string): string {
  return sql
    .replace(
      /\/\*[\s\S]*?(?:\*\/|$)|--[^\n]*|'(?:[^'\\]|\\[\s\S]|'')*(?:'|$)|\$(\w*)\$[\s\S]*?(?:\$\1\$|$)/g,
      (token) => (token.startsWith('-') || token.startsWith('/') ? ' ' : '?'),
    )
    .replace(/(?<![\w$"])\d[\w.]*/g, '?')
}

function bounded(name: string): string | null {
  return name === '' ? null : name.slice(0, MAX_NAME_CHARS).replace(/[^\x20-\x7e]/g, '?')
}

/** The same attempt many times, as one with a number. In the order of their first lines. */
export type CountedAttempt = Attempt & { readonly count: number; readonly lastAt: string }

/** At most `max` groups; what is beyond them is counted in the last one, whose command says so. */
export function counted(attempts: readonly Attempt[], max: number): CountedAttempt[] {
  const groups = new Map<string, CountedAttempt>()
  for (const attempt of attempts) {
    const { kind, login, client, command, sqlstate } = attempt
    const key = JSON.stringify([kind, login, client, command, sqlstate])
    const room = groups.has(key) || groups.size < max - 1
    const place = room ? key : ''
    const before = groups.get(place)
    if (before !== undefined) groups.set(place, { ...before, count: before.count + 1, lastAt: attempt.at })
    else groups.set(place, { ...attempt, ...(room ? {} : { command: 'others' }), count: 1, lastAt: attempt.at })
  }
  return [...groups.values()]
}
