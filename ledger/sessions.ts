import type { Checkpoint, SessionClose, SessionOpen } from '#core/audit/wire.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import type { Producer } from './entry.ts'
import { throwRefusal } from './refusal.ts'
import type { Sequencer } from './sequencer.ts'
import { findSessions } from './store/wall.ts'
import { listOpen, saveClosed, saveOpened, saveProgress, type SessionRow } from './store/work.ts'

export type Sessions = {
  /** Idempotent. @throws SignetError SESSION_FORBIDDEN, DATABASE_UNAVAILABLE */
  open(producer: Producer, open: SessionOpen): Promise<{ checkpoint: Checkpoint }>
  /** Idempotent; records the gap when the tail is missing. @throws SignetError SESSION_UNKNOWN, SESSION_FORBIDDEN, DATABASE_UNAVAILABLE */
  close(
    producer: Producer,
    session: string,
    close: SessionClose,
  ): Promise<{ checkpoint: Checkpoint; recordedSpoolSeq: number }>
  /** Notes how far sessions have come, after the wall has it; written soon, and lost without harm. */
  progressed(producer: Producer, spoolHeads: ReadonlyMap<string, number>): void
  /** Sets the cursors of open sessions by what the wall says: after a crash between the two. */
  reconcile(): Promise<number>
  idle(): Promise<void>
}

export type SessionsDeps = {
  readonly sequencer: Sequencer
  readonly wall: Pool
  readonly work: Pool
  readonly clock: () => Date
  readonly onProgressLost: (error: unknown) => void
}

/** Cursors that may wait to be written; more only means that older ones wait for the next reconciliation. */
const MAX_PENDING = 10_000
const MAX_RECONCILED = 10_000

export function createSessions(deps: SessionsDeps): Sessions {
  const { sequencer, wall, work, clock } = deps
  const pending = new Map<string, SessionRow>()
  let writing: Promise<void> | undefined

  async function writeProgress(): Promise<void> {
    while (pending.size > 0) {
      const rows = [...pending.values()]
      pending.clear()
      try {
        await saveProgress(work, rows, clock())
      } catch (error) {
        deps.onProgressLost(error)
      }
    }
    writing = undefined
  }

  return {
    async open(producer, { session, software, started_at: startedAt }) {
      const outcome = await sequencer.append({ producer, entries: [{ kind: 'open', session, software, startedAt }] })
      throwRefusal(outcome)
      const lastSpoolSeq = outcome.spoolHeads.get(session) ?? 0
      await saveOpened(work, { ...row(producer, session, lastSpoolSeq), software, at: clock() })
      return { checkpoint: outcome.checkpoint }
    },

    async close(producer, session, { clean, last_spool_seq }) {
      const outcome = await sequencer.append({ producer, entries: [{ kind: 'close', session, clean, last_spool_seq }] })
      throwRefusal(outcome)
      const recordedSpoolSeq = outcome.spoolHeads.get(session) ?? 0
      await saveClosed(work, { ...row(producer, session, recordedSpoolSeq), clean, at: clock() })
      return { checkpoint: outcome.checkpoint, recordedSpoolSeq }
    },

    progressed(producer, spoolHeads) {
      for (const [session, lastSpoolSeq] of spoolHeads) {
        if (pending.size < MAX_PENDING)
          pending.set(`${producer.tenant}/${session}`, row(producer, session, lastSpoolSeq))
      }
      writing ??= writeProgress()
    },

    async reconcile() {
      const byTenant = Map.groupBy(await listOpen(work, MAX_RECONCILED), (open) => open.tenant)
      let moved = 0
      for (const [tenant, open] of byTenant) {
        const onWall = await withTenant(
          wall,
          tenant,
          (client) =>
            findSessions(
              client,
              tenant,
              open.map(({ session }) => session),
            ),
          {
            readOnly: true,
          },
        )
        const behind = open
          .map((cursor) => ({ ...cursor, lastSpoolSeq: onWall.get(cursor.session)?.spoolHead ?? 0 }))
          .filter((fresh, index) => fresh.lastSpoolSeq > (open[index]?.lastSpoolSeq ?? 0))
        await saveProgress(work, behind, clock())
        moved += behind.length
      }
      return moved
    },

    async idle() {
      await writing
    },
  }
}

function row({ tenant, producerId }: Producer, session: string, lastSpoolSeq: number): SessionRow {
  return { tenant, session, producerId, lastSpoolSeq }
}
