import type { Mail, SendMail } from '../mail/mailer.ts'
import { claimTelling, markTold, type ExportJob } from '../store/exports.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'

export type TellDeps = {
  readonly work: Pool
  readonly send: SendMail
  /** Where people reach the ledger, without a slash at the end. */
  readonly publicUrl: string
  readonly clock: () => Date
  readonly log: Logger
  readonly onTold: (result: 'sent' | 'failed') => void
}

/** Minutes until the next try, after the first, second, … failure; none after the last. */
const AGAIN_MINUTES = [1, 5, 30, 120]

/**
 * Tells whoever asked for it that an export is finished, one letter a call; false when there is nobody to tell. At least once: a process that dies
 * after the server took the letter sends it again. The letter holds no data and no key: the link asks for a token like any other.
 */
export async function tellOne(deps: TellDeps): Promise<boolean> {
  const { work, send, clock, log, onTold } = deps
  const at = clock()
  // Claimed for the time until the next try: two processes do not send the same letter at once.
  const job = await claimTelling(work, at, AGAIN_MINUTES)
  if (job === null) return false
  try {
    await send(letterOf(job, deps.publicUrl))
  } catch (error) {
    onTold('failed')
    log.warn({ error, export_id: job.id }, 'the letter that an export is finished could not be sent')
    return true
  }
  await markTold(work, job.id, clock())
  onTold('sent')
  return true
}

export function letterOf(job: ExportJob, publicUrl: string): Mail {
  const { id, tenant, state, request, error } = job
  const place = `${publicUrl}/api/audit/exports/${id}`
  const said =
    state === 'done'
      ? [
          `The export ${id} of tenant ${tenant} (${request.format}) is ready until ${job.expiresAt.toISOString()}:`,
          '',
          `  ${place}/package`,
          '',
          'Fetch it with a token that may export, and check it with no network: signet verify EXPORT.tar.gz',
        ]
      : [`The export ${id} of tenant ${tenant} failed: ${error?.code ?? 'INTERNAL'}. More is at`, '', `  ${place}`]
  return {
    to: request.notify ?? '',
    subject: state === 'done' ? `Your audit export is ready` : `Your audit export failed`,
    text: `${said.join('\n')}\n`,
  }
}
