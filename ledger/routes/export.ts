import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'
import { parseStrict } from '#core/json/strict.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import { exportDownloaded, exportRequested, exportsFrozen } from '../export/notice.ts'
import { readManifest } from '#core/export/manifest.ts'
import { streamPackage, type PackageDeps } from '../export/package.ts'
import { filterOf, parseExportRequest } from '../export/request.ts'
import type { PersonalReader } from '../seal/reader.ts'
import type { Sequencer } from '../sequencer.ts'
import {
  countExports,
  findExport,
  findFreeze,
  insertExport,
  listExports,
  removeFreeze,
  saveFreeze,
  type ExportJob,
} from '../store/exports.ts'
import { countRecords } from '../store/search.ts'
import { bodyOf, invalidBody, refuseEncoding } from './body.ts'
import { callerOf, requireAlso, requireIdentity, tenantOf } from './identity.ts'

export type ExportDeps = PackageDeps & {
  readonly authenticator: Authenticator
  readonly work: Pool
  readonly personal: PersonalReader
  readonly sequencer: Sequencer
  readonly clock: () => Date
  /** Whom letters may go to, by domain; null where no mail server is configured. */
  readonly mailDomains: readonly string[] | null
}

const MAX_BODY_BYTES = 64 * 1024
/** Exports of one tenant that have not expired. */
const MAX_EXPORTS = 20
/** A tenant’s exports of a day, and those that expired within the week. */
const MAX_LISTED = 200
const LIFETIME_MS = 24 * 60 * 60 * 1_000
/** Downloads at a time in one process: each reads the records again. */
const MAX_DOWNLOADS = 2
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

const FreezeBody = Type.Object(
  { reason: Type.String({ minLength: 1, maxLength: 1_000 }) },
  { additionalProperties: false },
)
const freezeValidator = Compile(FreezeBody)

/** Exports: `docs/export.md`. */
export function exportRoutes(app: FastifyInstance, deps: ExportDeps): void {
  const { authenticator, wall, work, sequencer, clock, personal } = deps
  const onRequest = requireIdentity(authenticator, 'audit:export')
  const mayFreeze = requireIdentity(authenticator, 'audit:admin')
  let downloads = 0

  app.post('/api/audit/exports', { bodyLimit: MAX_BODY_BYTES, onRequest }, async (request, reply) => {
    refuseEncoding(request)
    const tenant = tenantOf(request)
    const createdAt = clock()
    const asked = parseExportRequest(parseStrict(bodyOf(request)), createdAt)
    // The chain, the job and the package say whom it is about without a name.
    const wanted = { ...asked, query: await personal.withoutNames(tenant, asked.query) }
    if (wanted.raw) requireAlso(request, 'audit:export:raw')
    requireMail(deps.mailDomains, wanted.notify)
    await refuseWhileFrozen(work, tenant)
    // Before anything is recorded; the insertion has the last word.
    if ((await countExports(work, tenant, createdAt)) >= MAX_EXPORTS) throw tooMany()
    const filter = await personal.expand(tenant, filterOf(wanted.query))
    const found = await withTenant(wall, tenant, (client) => countRecords(client, tenant, filter, 0), {
      readOnly: true,
    })
    const named = { id: randomUUID(), tenant, requestedBy: callerOf(request), request: wanted }
    const { checkpoint } = await sequencer.append(exportRequested(named))
    const job = {
      ...named,
      headSeq: checkpoint.seq,
      createdAt,
      expiresAt: new Date(createdAt.getTime() + LIFETIME_MS),
      recordsFound: found.value,
      foundExact: found.exact,
    }
    if (!(await insertExport(work, job, MAX_EXPORTS))) throw tooMany()
    const state = {
      state: 'queued',
      recordsDone: 0,
      finishedAt: null,
      package: null,
      error: null,
      attempts: 0,
    } as const
    return reply
      .status(202)
      .type('application/json')
      .header('location', `/api/audit/exports/${job.id}`)
      .header('cache-control', 'no-store')
      .send(JSON.stringify(present({ ...job, ...state }, createdAt)))
  })

  app.get('/api/audit/exports', { onRequest }, async (request, reply) => {
    const jobs = await listExports(work, tenantOf(request), MAX_LISTED)
    const at = clock()
    return reply
      .type('application/json')
      .header('cache-control', 'no-store')
      .send(JSON.stringify({ items: jobs.map((job) => present(job, at)) }))
  })

  app.get<{ Params: { id: string } }>('/api/audit/exports/:id', { onRequest }, async (request, reply) => {
    const job = await findJob(work, tenantOf(request), request.params.id)
    return reply
      .type('application/json')
      .header('cache-control', 'no-store')
      .send(JSON.stringify(present(job, clock())))
  })

  app.get<{ Params: { id: string } }>('/api/audit/exports/:id/package', { onRequest }, async (request, reply) => {
    const tenant = tenantOf(request)
    const job = await findJob(work, tenant, request.params.id)
    if (job.request.raw) requireAlso(request, 'audit:export:raw')
    await refuseWhileFrozen(work, tenant)
    if (clock() > job.expiresAt) throw new SignetError('EXPORT_EXPIRED', 'this export has expired; ask for it again')
    if (job.state === 'failed')
      throw new SignetError('EXPORT_FAILED', `the export failed: ${job.error?.code} ${job.error?.detail}`)
    const made = job.package
    if (made === null) throw new SignetError('EXPORT_PENDING', `the export is ${job.state}; ask again shortly`)
    if (downloads >= MAX_DOWNLOADS)
      throw new SignetError('LEDGER_BUSY', 'other exports are being downloaded; try again shortly')
    downloads += 1
    reply.raw.once('close', () => {
      downloads -= 1
    })
    await sequencer.append(exportDownloaded(job, callerOf(request), request.id))
    const stream = streamPackage(deps, job, made, () => refuseWhileFrozen(work, tenant))
    stream.on('error', (error) => request.log.warn({ error, export_id: job.id }, 'the download of an export broke off'))
    return reply
      .type('application/gzip')
      .header('content-disposition', `attachment; filename="signet-export-${job.id}.tar.gz"`)
      .header('cache-control', 'no-store')
      .send(stream)
  })

  for (const frozen of [true, false]) {
    const path = `/api/audit/exports/${frozen ? 'freeze' : 'unfreeze'}`
    app.post(path, { bodyLimit: MAX_BODY_BYTES, onRequest: mayFreeze }, async (request, reply) => {
      refuseEncoding(request)
      const tenant = tenantOf(request)
      const body = parseStrict(bodyOf(request))
      if (!freezeValidator.Check(body)) throw invalidBody(freezeValidator.Errors(body)[0])
      const by = { caller: callerOf(request), reason: body.reason, requestId: request.id }
      // What closes is closed at once, what opens is on record first.
      if (frozen) await saveFreeze(work, tenant, { frozenAt: clock(), frozenBy: by.caller, reason: by.reason })
      await sequencer.append(exportsFrozen(tenant, frozen, by))
      if (!frozen) await removeFreeze(work, tenant)
      const freeze = await findFreeze(work, tenant)
      const answer =
        freeze === null
          ? { frozen: false }
          : { frozen: true, since: freeze.frozenAt.toISOString(), by: freeze.frozenBy, reason: freeze.reason }
      return reply.type('application/json').header('cache-control', 'no-store').send(JSON.stringify(answer))
    })
  }
}

async function refuseWhileFrozen(work: Pool, tenant: string): Promise<void> {
  const freeze = await findFreeze(work, tenant)
  if (freeze === null) return
  throw new SignetError(
    'EXPORT_FROZEN',
    `exports are frozen since ${freeze.frozenAt.toISOString()}; POST /api/audit/exports/unfreeze ends it`,
  )
}

async function findJob(work: Pool, tenant: string, id: string): Promise<ExportJob> {
  const job = UUID.test(id) ? await findExport(work, tenant, id) : null
  if (job === null) throw new SignetError('NOT_FOUND', 'no such export')
  return job
}

/** Letters go to the domains that whoever runs the ledger named: it is nobody’s way to write to others. */
function requireMail(domains: readonly string[] | null, notify: string | undefined): void {
  if (notify === undefined) return
  if (domains === null)
    throw new SignetError(
      'REQUEST_INVALID',
      '/notify cannot be used: this ledger has no mail server (SIGNET_LEDGER_SMTP_URL)',
    )
  const domain = notify.slice(notify.lastIndexOf('@') + 1).toLowerCase()
  if (!domains.includes(domain))
    throw new SignetError(
      'REQUEST_INVALID',
      `/notify is outside of the domains that letters may go to: ${domains.join(', ')}`,
    )
}

function tooMany(): SignetError {
  return new SignetError('TOO_MANY_REQUESTS', `a tenant has at most ${MAX_EXPORTS} exports a day`)
}

type Shown = Omit<ExportJob, 'state'> & { readonly state: ExportJob['state'] }

function present(job: Shown, at: Date): Record<string, unknown> {
  const manifest = job.package === null ? null : readManifest(Buffer.from(job.package.manifest))
  const expired = at > job.expiresAt
  return {
    id: job.id,
    state: expired ? 'expired' : job.state,
    ...job.request,
    requested_by: job.requestedBy,
    created_at: job.createdAt.toISOString(),
    expires_at: job.expiresAt.toISOString(),
    finished_at: job.finishedAt?.toISOString() ?? null,
    progress: { records: job.recordsDone, of: job.recordsFound, exact: job.foundExact },
    records: manifest?.records ?? null,
    bytes: manifest?.files.reduce((sum, file) => sum + file.bytes, 0) ?? null,
    scrubbing: manifest?.scrubbing ?? null,
    timestamped: job.package === null ? null : job.package.timestamp !== undefined,
    package: job.state === 'done' && !expired ? `/api/audit/exports/${job.id}/package` : null,
    error: job.error,
  }
}
