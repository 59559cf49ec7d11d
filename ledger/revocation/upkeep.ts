import type { Logger } from '#runtime/telemetry/log.ts'
import type { Revocations } from './revocations.ts'

const EVERY_MS = 15_000

/** Records revocations that are not in the chain yet: at once, and then every few seconds. Any number of processes may: the chain has each once. */
export function keepRevocationsRecorded(
  revocations: Pick<Revocations, 'keepUp'>,
  log: Logger,
): { stop(): Promise<void> } {
  const work = async (): Promise<void> => {
    const recorded = await revocations.keepUp()
    if (recorded > 0) log.info({ recorded }, 'revocations that waited are in the chain')
  }
  let timer: NodeJS.Timeout | undefined
  let stopped = false
  let running: Promise<void> = Promise.resolve()
  const run = (): void => {
    running = work()
      .catch((error: unknown) => log.warn({ error }, 'recording revocations has to wait'))
      .finally(() => {
        if (!stopped) timer = setTimeout(run, EVERY_MS).unref()
      })
  }
  run()
  return {
    async stop() {
      stopped = true
      clearTimeout(timer)
      await running
    },
  }
}
