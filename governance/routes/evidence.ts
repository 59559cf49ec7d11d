import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import { isRealTimestamp } from '#core/time/timestamp.ts'
import type { ArtifactStore } from '../evidence/artifact-store.ts'
import { asEvidence, loggedEvidence, prepareEvidence } from '../evidence/collector.ts'
import { claimFile, keepFile, readFileOf, sha256Of } from '../evidence/keep.ts'
import { MEDIA_TYPES, requireMediaType, type MediaType } from '../evidence/media-type.ts'
import { FileGate, readUpload } from '../evidence/upload.ts'
import type { Catalog } from '../frameworks/catalog.ts'
import type { LookDeps } from '../frameworks/look.ts'
import { defineCall, found, principalOf, read, requireVersion, write, type CallDeps } from '../http/calls.ts'
import { ById, Id, Line, PageOf, Paging, Text, Time, Version } from '../http/schemas.ts'
import {
  deleteEvidence,
  EVIDENCE_KINDS,
  findEvidence,
  listEvidence,
  noteUnclaimed,
  replaceControls,
  updateEvidence,
  type ControlName,
  type EvidenceRow,
} from '../store/evidence.ts'
import { DEFAULT_LIMIT, pageOf, parseCursor } from '../store/paging.ts'

const ControlRef = Type.Object(
  { framework: Type.String({ pattern: '^[a-z0-9_]{1,40}$' }), control: Type.String({ minLength: 1, maxLength: 40 }) },
  { additionalProperties: false },
)
const Evidence = Type.Object({
  id: Id,
  kind: Type.Enum(EVIDENCE_KINDS),
  name: Type.String(),
  description: Type.String(),
  media_type: Type.String(),
  bytes: Type.Integer(),
  sha256: Type.String(),
  controls: Type.Array(ControlRef),
  valid_until: Time,
  fresh: Type.Boolean({ description: 'It says something of today: `valid_until` is not over.' }),
  made_by: Type.String(),
  version: Type.Integer(),
  created_at: Time,
  updated_at: Time,
})
const ListQuery = Type.Object(
  {
    ...Paging,
    kind: Type.Optional(Type.Enum(EVIDENCE_KINDS)),
    framework: Type.Optional(Type.String({ pattern: '^[a-z0-9_]{1,40}$' })),
    control: Type.Optional(Type.String({ minLength: 1, maxLength: 40, pattern: '^[^\\x00]*$' })),
  },
  { additionalProperties: false },
)
const UploadQuery = Type.Object(
  {
    name: Line(200),
    description: Type.Optional(Text(4_000)),
    controls: Type.Optional(
      Type.String({
        maxLength: 2_000,
        pattern: '^[a-z0-9_]{1,40}:[^,\\x00]{1,40}(,[a-z0-9_]{1,40}:[^,\\x00]{1,40}){0,49}$',
        description: 'FRAMEWORK:CONTROL, several with commas.',
      }),
    ),
    valid_until: Type.Optional(Time),
    sha256: Type.Optional(Type.String({ pattern: '^[0-9a-f]{64}$', description: 'What the file has to have.' })),
  },
  { additionalProperties: false },
)
const Change = Type.Object(
  {
    name: Type.Optional(Line(200)),
    description: Type.Optional(Text(4_000)),
    valid_until: Type.Optional(Time),
    controls: Type.Optional(Type.Array(ControlRef, { maxItems: 50 })),
    version: Type.Optional(Version),
  },
  { additionalProperties: false, minProperties: 1 },
)
const Collect = Type.Object(
  {
    kind: Type.Enum(['scan', 'ledger', 'stamp']),
    scan_id: Type.Optional({
      ...Id,
      description: 'For `scan`; the newest of the last day that looked at everything, unless given.',
    }),
  },
  { additionalProperties: false },
)

type Deps = CallDeps & {
  readonly artifacts: ArtifactStore
  readonly maxFileBytes: number
  readonly catalogs: ReadonlyMap<string, Catalog>
  readonly ledger: LookDeps['ledger']
}

const DAY_MS = 86_400_000
const VALID_DAYS = 365
const MAX_VALID_DAYS = 3_653

/** Evidence: files that show that controls hold, and what Signet collects of that itself. */
export function evidenceRoutes(app: FastifyInstance, deps: Deps): void {
  const tag = 'evidence'
  const url = '/api/v1/evidence'
  const one = `${url}/:id`
  const resource = 'evidence'
  const gate = new FileGate()
  const present = presenter(() => deps.clock().getTime())

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url,
      summary: 'Evidence, newest first: all, of a kind, or of a control',
      tag,
      permission: ['read', resource],
      query: ListQuery,
      answer: PageOf(Evidence),
    },
    ({ query: { cursor, limit = DEFAULT_LIMIT, kind = null, framework, control } }, request) => {
      const after = parseCursor(cursor)
      if ((framework === undefined) !== (control === undefined))
        throw new SignetError('REQUEST_INVALID', 'the parameters framework and control go together')
      const of = framework === undefined || control === undefined ? null : { framework, control }
      return read(deps, request, { action: 'read', resource }, async (client, { tenant }) =>
        pageOf(await listEvidence(client, tenant, { kind, of }, { after, limit }), limit, present),
      )
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: one,
      summary: 'A piece of evidence, without its file',
      tag,
      permission: ['read', resource],
      params: ById,
      answer: Evidence,
    },
    ({ params: { id } }, request) =>
      read(deps, request, { action: 'read', resource, id }, async (client, { tenant }) =>
        present(found(await findEvidence(client, tenant, id), 'evidence')),
      ),
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: `${one}/file`,
      summary: 'Its file, compared with what was kept before a byte is sent',
      tag,
      permission: ['read', resource],
      params: ById,
      answer: Type.Any({ description: 'The bytes of the file, never to be shown in place.' }),
      mediaType: 'application/octet-stream',
    },
    async ({ params: { id } }, request, reply) => {
      const row = await read(deps, request, { action: 'read', resource, id }, async (client, { tenant }) =>
        found(await findEvidence(client, tenant, id), 'evidence'),
      )
      const bytes = await gate.pass(() => readFileOf(deps.artifacts, row))
      reply
        .header('content-disposition', `attachment; filename="${id}.${MEDIA_TYPES[row.media_type as MediaType]}"`)
        .header('x-content-type-options', 'nosniff')
        .header('content-security-policy', "default-src 'none'; sandbox")
        .header('repr-digest', `sha-256=:${Buffer.from(row.sha256, 'hex').toString('base64')}:`)
      return bytes
    },
  )

  // The file comes as it is: no parser touches it, and it is not read before it is known that it may come.
  app.register((scope, _options, done) => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', (_request, _payload, parsed) => parsed(null, {}))
    uploadRoute(scope)
    done()
  })

  function uploadRoute(scope: FastifyInstance): void {
    defineCall(
      scope,
      deps,
      {
        method: 'POST',
        url,
        summary: 'Keeps a file as evidence; its type is the header content-type',
        tag,
        permission: ['write', resource],
        query: UploadQuery,
        body: Type.Any({ description: 'The file itself.' }),
        consumes: Object.keys(MEDIA_TYPES),
        answer: Evidence,
        status: 201,
      },
      async ({ query: { name, description = '', valid_until, sha256, controls } }, request) => {
        const { tenant } = principalOf(request)
        await read(deps, request, { action: 'write', resource }, () => Promise.resolve())
        const validUntil = until(deps, valid_until, 'the query')
        const linked = requireControls(deps, parseControls(controls), 'the query')
        return gate.pass(async () => {
          const bytes = await readUpload(request.raw, deps.maxFileBytes)
          const media_type = await requireMediaType(bytes, request.headers['content-type'])
          if (sha256 !== undefined && sha256 !== sha256Of(bytes))
            throw new SignetError('REQUEST_INVALID', 'the file that came has another SHA-256 than the query at /sha256')
          const file = await keepFile(deps, tenant, bytes, media_type)
          const wanted = { name, media_type, bytes: file.bytes, sha256: file.sha256 }
          return write(deps, request, { action: 'write', resource, id: file.id }, wanted, async (client, rights) => {
            const row = await claimFile(client, tenant, {
              ...file,
              kind: 'file',
              name,
              description,
              media_type,
              controls: linked,
              collected_key: null,
              valid_until: validUntil,
              made_by: rights.principal.name,
            })
            return { result: present(row), before: null, after: loggedEvidence(row) }
          })
        })
      },
    )
  }

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url: `${url}/collect`,
      summary: 'Has Signet collect evidence now: of a scan, of the ledger, of a stamp',
      tag,
      permission: ['write', resource],
      body: Collect,
      answer: Evidence,
      status: 201,
    },
    async ({ body: { kind, scan_id } }, request) => {
      if (scan_id !== undefined && kind !== 'scan')
        throw new SignetError('REQUEST_INVALID', 'the body at /scan_id goes with the kind scan only')
      const { tenant, name } = principalOf(request)
      await read(deps, request, { action: 'write', resource }, () => Promise.resolve())
      const prepared = await gate.pass(() => prepareEvidence(deps, tenant, kind, scan_id ?? null))
      const target = { action: 'write', resource, id: prepared.file.id } as const
      return write(deps, request, target, { kind, scan_id: scan_id ?? null }, async (client) => {
        const made = asEvidence(prepared, { by: name, key: null, now: deps.clock() })
        const row = await claimFile(client, tenant, made)
        return { result: present(row), before: null, after: loggedEvidence(row) }
      })
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'PATCH',
      url: one,
      summary: 'Says what it is, of which controls, and until when; the file stays as it is',
      tag,
      permission: ['write', resource],
      params: ById,
      body: Change,
      answer: Evidence,
    },
    ({ params: { id }, body: { version, ...change } }, request) => {
      const validUntil = change.valid_until === undefined ? null : until(deps, change.valid_until, 'the body')
      const linked = change.controls === undefined ? null : requireControls(deps, change.controls, 'the body')
      return write(deps, request, { action: 'write', resource, id }, change, async (client, { tenant }) => {
        const before = found(await findEvidence(client, tenant, id, true), 'evidence')
        requireVersion(before, version)
        if (linked !== null) await replaceControls(client, tenant, id, linked)
        await updateEvidence(client, tenant, {
          id,
          name: change.name ?? before.name,
          description: change.description ?? before.description,
          valid_until: validUntil ?? before.valid_until,
        })
        const after = found(await findEvidence(client, tenant, id), 'evidence')
        return { result: present(after), before: loggedEvidence(before), after: loggedEvidence(after) }
      })
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'DELETE',
      url: one,
      summary: 'Deletes it, and its file soon after; the ledger keeps that it was there, with its hash',
      tag,
      permission: ['delete', resource],
      params: ById,
      answer: null,
    },
    ({ params: { id } }, request) =>
      write(deps, request, { action: 'delete', resource, id }, null, async (client, { tenant }) => {
        const before = found(await findEvidence(client, tenant, id, true), 'evidence')
        await deleteEvidence(client, tenant, id)
        await noteUnclaimed(client, tenant, before.object_key, deps.clock())
        return { result: undefined, before: loggedEvidence(before), after: null }
      }),
  )
}

function parseControls(text: string | undefined): ControlName[] {
  return (text ?? '')
    .split(',')
    .filter((part) => part !== '')
    .map((part) => ({ framework: part.slice(0, part.indexOf(':')), control: part.slice(part.indexOf(':') + 1) }))
}

/** @throws SignetError REQUEST_INVALID: one that no framework has, or one that is there twice */
function requireControls({ catalogs }: Deps, wanted: readonly ControlName[], where: string): readonly ControlName[] {
  const names = new Set<string>()
  for (const { framework, control } of wanted) {
    const name = `${framework}:${control}`
    if (catalogs.get(framework)?.controls.some(({ id }) => id === control) !== true)
      throw new SignetError('REQUEST_INVALID', `${where} at /controls names a control that no framework has`)
    if (names.has(name)) throw new SignetError('REQUEST_INVALID', `${where} at /controls names ${name} twice`)
    names.add(name)
  }
  return wanted
}

/** A year from now unless said otherwise, ten at most. @throws SignetError REQUEST_INVALID */
function until({ clock }: Deps, given: string | undefined, where: string): Date {
  const now = clock().getTime()
  if (given === undefined) return new Date(now + VALID_DAYS * DAY_MS)
  const at = isRealTimestamp(given) ? Date.parse(given) : Number.NaN
  if (!(at > now && at <= now + MAX_VALID_DAYS * DAY_MS))
    throw new SignetError('REQUEST_INVALID', `${where} at /valid_until has to be a moment of the next ten years`)
  return new Date(at)
}

function presenter(now: () => number) {
  return ({
    object_key: _key,
    collected_key: _collected,
    valid_until,
    created_at,
    updated_at,
    ...row
  }: EvidenceRow) => ({
    ...row,
    controls: row.controls.map((control) => ({ ...control })),
    valid_until: valid_until.toISOString(),
    fresh: valid_until.getTime() > now(),
    created_at: created_at.toISOString(),
    updated_at: updated_at.toISOString(),
  })
}
