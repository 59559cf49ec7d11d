import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { defineCall, found, read, type CallDeps } from '../http/calls.ts'
import { ListOf } from '../http/schemas.ts'
import { automationOf, type Catalog, type Control } from '../frameworks/catalog.ts'

const Automation = Type.Object({
  status: Type.Enum(['full', 'partial', 'none']),
  full: Type.Integer(),
  partial: Type.Integer(),
  none: Type.Integer(),
})
const Regulation = Type.Object({
  id: Type.String(),
  title: Type.String(),
  source: Type.String(),
  codes: Type.Array(Type.String()),
  controls: Type.Integer(),
  automation: Automation,
})
export const ControlShape = {
  id: Type.String(),
  title: Type.String(),
  text: Type.String(),
  automation: Type.Enum(['full', 'partial', 'none']),
  check: Type.Union([Type.String(), Type.Null()]),
  rules: Type.Array(Type.String()),
  crosswalk: Type.Array(Type.String()),
  how_to: Type.Union([Type.String(), Type.Null()]),
}
const ControlObject = Type.Object(ControlShape)
const ByRegulation = Type.Object({ reg: Type.String({ pattern: '^[a-z0-9_]{1,40}$' }) })

/** The control catalogs: the same for every tenant. */
export function regulationRoutes(
  app: FastifyInstance,
  deps: CallDeps & { catalogs: ReadonlyMap<string, Catalog> },
): void {
  const tag = 'frameworks'
  const permission = ['read', 'checklists'] as const
  const target = { action: 'read', resource: 'checklists' } as const

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: '/api/v1/regulations',
      summary: 'The frameworks, and how much of each is looked at by itself',
      tag,
      permission,
      answer: ListOf(Regulation),
    },
    (_input, request) =>
      read(deps, request, target, async () => ({ items: [...deps.catalogs.values()].map(presentRegulation) })),
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: '/api/v1/regulations/:reg/controls',
      summary: 'The controls of a framework, with those of others that ask for the same',
      tag,
      permission,
      params: ByRegulation,
      answer: ListOf(ControlObject),
    },
    ({ params: { reg } }, request) =>
      read(deps, request, target, async () => ({
        items: found(deps.catalogs.get(reg) ?? null, 'framework').controls.map(presentControl),
      })),
  )
}

export function presentControl(control: Control): Type.Static<typeof ControlObject> {
  const { id, title, text, check = null, rules = [], crosswalk = [], how_to = null } = control
  const automation = control.automation ?? (check !== null || rules.length > 0 ? 'partial' : 'none')
  return { id, title, text, automation, check, rules: [...rules], crosswalk: [...crosswalk], how_to }
}

function presentRegulation(catalog: Catalog) {
  const { id, title, source, codes, controls } = catalog
  return { id, title, source, codes: [...codes], controls: controls.length, automation: automationOf(catalog) }
}
