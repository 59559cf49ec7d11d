import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import { isRealTimestamp } from '#core/time/timestamp.ts'
import { defineCall, principalOf, read, requireVersion, write, type CallDeps } from '../http/calls.ts'
import { Text, Time } from '../http/schemas.ts'
import type { Catalog } from '../frameworks/catalog.ts'
import {
  assess,
  assessAll,
  scoreOf,
  STATUSES,
  type AssessedControl,
  type EvidenceCount,
  type Statement,
} from '../frameworks/checklist.ts'
import type { Look } from '../frameworks/look.ts'
import { countEvidence } from '../store/evidence.ts'
import { findStatement, findStatements, putStatement } from '../store/checklists.ts'
import { ControlShape, presentControl } from './regulations.ts'

const Status = Type.Enum(STATUSES)
const Assessed = Type.Object({
  ...ControlShape,
  status: Status,
  basis: Type.Enum(['check', 'statement', 'check and statement', 'nothing']),
  result: Type.Union([
    Type.Null(),
    Type.Object({ result: Type.Enum(['met', 'not_met', 'unknown']), detail: Type.String() }),
  ]),
  evidence: Type.Object(
    { fresh: Type.Integer(), stale: Type.Integer() },
    { description: 'Pieces of evidence that are linked to it (/api/v1/evidence).' },
  ),
  statement: Type.Union([
    Type.Null(),
    Type.Object({
      status: Status,
      owner: Type.String(),
      note: Type.String(),
      evidence: Type.Array(Type.String()),
      valid_until: Type.Union([Time, Type.Null()]),
      expired: Type.Boolean(),
      version: Type.Integer(),
      updated_by: Type.String(),
      updated_at: Time,
    }),
  ]),
})
const Checklist = Type.Object({
  framework: Type.String(),
  title: Type.String(),
  checked_at: Time,
  score: Type.Object({
    percent: Type.Integer({ minimum: 0, maximum: 100 }),
    implemented: Type.Integer(),
    in_progress: Type.Integer(),
    not_started: Type.Integer(),
    total: Type.Integer(),
  }),
  controls: Type.Array(Assessed),
})
const FrameworkId = Type.String({ pattern: '^[a-z0-9_]{1,40}$' })
const Query = Type.Object({ framework: Type.Optional(FrameworkId) }, { additionalProperties: false })
const Said = Type.Object(
  {
    framework: FrameworkId,
    control: Type.String({ minLength: 1, maxLength: 40 }),
    status: Type.Optional(Status),
    owner: Type.Optional(Text(200)),
    note: Type.Optional(Text(4_000)),
    evidence: Type.Optional(
      Type.Array(Type.String({ maxLength: 2_000, pattern: '^https?://[^\\s]+$' }), { maxItems: 50 }),
    ),
    valid_until: Type.Optional(
      Type.Union([Type.Null(), Type.String({ pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z$' })]),
    ),
    version: Type.Optional(
      Type.Integer({ minimum: 0, description: 'The version that is changed, 0 for none; another one is a conflict.' }),
    ),
  },
  { additionalProperties: false, minProperties: 3 },
)
const NOTHING_SAID = { status: 'not_started', owner: '', note: '', evidence: [], validUntil: null, version: 0 } as const

type Deps = CallDeps & { catalogs: ReadonlyMap<string, Catalog>; look: (tenant: string) => Promise<Look> }

/** Checklists: what the checks see now, and what people say. */
export function checklistRoutes(app: FastifyInstance, deps: Deps): void {
  const tag = 'frameworks'
  const url = '/api/compliance'
  const resource = 'checklists'

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url,
      summary: 'Checklists with status and score of each control, of all frameworks or one',
      tag,
      permission: ['read', resource],
      query: Query,
      answer: Type.Object({ items: Type.Array(Checklist) }),
    },
    async ({ query: { framework } }, request) => {
      const wanted =
        framework === undefined ? [...deps.catalogs.values()] : [catalogOf(deps, framework, 'the query at /framework')]
      const now = deps.clock()
      const known = await read(deps, request, { action: 'read', resource }, async (client, { tenant }) => {
        const byFramework = new Map<string, KnownOfFramework>()
        for (const { id } of wanted) {
          const statements = await findStatements(client, tenant, id)
          byFramework.set(id, { statements, evidence: await countEvidence(client, tenant, id, now) })
        }
        return byFramework
      })
      const { results, checkedAt } = await deps.look(principalOf(request).tenant)
      return {
        items: wanted.map((catalog) => {
          const { statements = new Map(), evidence } = known.get(catalog.id) ?? {}
          const controls = assessAll(catalog, results, statements, now, evidence)
          const { id, title } = catalog
          return {
            framework: id,
            title,
            checked_at: checkedAt.toISOString(),
            score: scoreOf(controls),
            controls: controls.map(present),
          }
        }),
      }
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'PATCH',
      url,
      summary: 'Says what is known of a control: status, owner, evidence, until when it holds',
      tag,
      permission: ['write', resource],
      body: Said,
      answer: Assessed,
    },
    async ({ body }, request) => {
      const { framework, control: controlId, version, valid_until: until, ...said } = body
      if (typeof until === 'string' && !isRealTimestamp(until))
        throw new SignetError('REQUEST_INVALID', 'the body at /valid_until names no moment that there is')
      const control = catalogOf(deps, framework, 'the body at /framework').controls.find(({ id }) => id === controlId)
      if (control === undefined)
        throw new SignetError('REQUEST_INVALID', `the body at /control names no control of ${framework}`)
      const validUntil = until === undefined ? undefined : until === null ? null : new Date(until)
      const target = { action: 'write', resource, id: `${framework}:${controlId}` } as const
      const now = deps.clock()
      const { statement, evidence } = await write(
        deps,
        request,
        target,
        body,
        async (client, { tenant, principal }) => {
          const before = await findStatement(client, tenant, framework, controlId)
          const base = before ?? NOTHING_SAID
          requireVersion(base, version)
          const after = await putStatement(
            client,
            tenant,
            { framework, control: controlId },
            {
              status: said.status ?? base.status,
              owner: said.owner ?? base.owner,
              note: said.note ?? base.note,
              evidence: said.evidence ?? base.evidence,
              validUntil: validUntil === undefined ? base.validUntil : validUntil,
              updatedBy: principal.name,
            },
          )
          const counts = await countEvidence(client, tenant, framework, now)
          return {
            result: { statement: after, evidence: counts.get(controlId) },
            before: before === null ? null : logged(before),
            after: logged(after),
          }
        },
      )
      const { results } = await deps.look(principalOf(request).tenant)
      return present(
        assess(
          control,
          control.check === undefined ? null : (results.get(control.check) ?? null),
          statement,
          now,
          evidence,
        ),
      )
    },
  )
}

type KnownOfFramework = {
  readonly statements: ReadonlyMap<string, Statement>
  readonly evidence: ReadonlyMap<string, EvidenceCount>
}

function catalogOf({ catalogs }: Deps, id: string, where: string): Catalog {
  const catalog = catalogs.get(id)
  if (catalog === undefined)
    throw new SignetError(
      'REQUEST_INVALID',
      `${where} names no framework; there are ${[...catalogs.keys()].join(', ')}`,
    )
  return catalog
}

function present({ control, status, basis, check, statement, evidence, expired }: AssessedControl) {
  return {
    ...presentControl(control),
    status,
    basis,
    result: check,
    evidence: { ...evidence },
    statement:
      statement === null
        ? null
        : {
            ...logged(statement),
            expired,
            version: statement.version,
            updated_by: statement.updatedBy,
            updated_at: statement.updatedAt.toISOString(),
          },
  }
}

function logged({ status, owner, note, evidence, validUntil }: Statement) {
  return { status, owner, note, evidence: [...evidence], valid_until: validUntil?.toISOString() ?? null }
}
