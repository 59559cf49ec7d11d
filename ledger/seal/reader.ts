import type { FastifyRequest } from 'fastify'
import type { AuditEvent } from '#core/audit/event.ts'
import { parseSubjectRef } from '#core/seal/rules.ts'
import type { FilterColumn, RecordFilter } from '../query.ts'
import { mayAlso } from '../routes/identity.ts'
import type { Opened, Sealer } from './sealer.ts'

/** Columns in which a person's name may stand. */
const NAME_COLUMNS: ReadonlySet<FilterColumn> = new Set(['actor', 'resource_id'])

/** What routes read sealed records with. */
export type PersonalReader = {
  /** The same filter, that finds people under their references, too. @throws SignetError DATABASE_UNAVAILABLE, SEAL_KEY_UNAVAILABLE */
  expand<F extends RecordFilter>(tenant: string, filter: F): Promise<F>
  /** Members of a filter, with references in place of people's names: for what is kept, or leaves. @throws as `expand` */
  withoutNames(tenant: string, query: Readonly<Record<string, string>>): Promise<Record<string, string>>
  /** What to look for to find everything held about somebody. */
  lookFor(tenant: string, subject: string): Promise<{ names: readonly string[]; words: readonly string[] }>
  /**
   * The events in clear, in order, for who may see them (`audit:personal`); undefined for all others, and where nothing is sealed.
   * @throws SignetError DATABASE_UNAVAILABLE, SEAL_KEY_UNAVAILABLE
   */
  openFor(
    request: FastifyRequest,
    tenant: string,
    events: readonly (AuditEvent | null)[],
  ): Promise<(Opened | null)[] | undefined>
}

export function createPersonalReader(sealer: Sealer | null): PersonalReader {
  async function known(tenant: string, name: string): Promise<string> {
    const forms = (await sealer?.formsOf(tenant, name)) ?? []
    return forms.find((form) => parseSubjectRef(form) !== null) ?? name
  }

  return {
    async expand(tenant, filter) {
      if (sealer === null) return filter
      const aliases = new Map<FilterColumn, readonly string[]>()
      for (const [column, value] of filter.equals) {
        if (!NAME_COLUMNS.has(column)) continue
        const others = (await sealer.formsOf(tenant, value)).filter((form) => form !== value)
        if (others.length > 0) aliases.set(column, others)
      }
      return aliases.size === 0 ? filter : { ...filter, aliases }
    },
    async withoutNames(tenant, query) {
      const { actor, resource_id: id, ...others } = query
      if (sealer === null) return query
      const isPerson = id !== undefined && sealer.rules().isPersonResource(id, query['resource_type'])
      return {
        ...others,
        ...(actor === undefined ? {} : { actor: await sealer.referenceOf(tenant, actor) }),
        ...(id === undefined
          ? {}
          : { resource_id: isPerson ? await sealer.referenceOf(tenant, id) : await known(tenant, id) }),
      }
    },
    async lookFor(tenant, subject) {
      const names = sealer === null ? [subject] : await sealer.formsOf(tenant, subject)
      return { names, words: names.map(parseSubjectRef).filter((id) => id !== null) }
    },
    async openFor(request, tenant, events) {
      if (sealer === null || !mayAlso(request, 'audit:personal')) return undefined
      const there = events.filter((event) => event !== null)
      const opened = await sealer.open(tenant, there)
      let next = 0
      return events.map((event) => (event === null ? null : (opened[next++] ?? null)))
    },
  }
}
