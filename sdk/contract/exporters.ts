import { watch } from 'node:fs'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { verifyStamp, type StampExpectation } from '../stamp/verify-stamp.ts'
import type { StampAuthority } from '../stamp/authority.ts'
import { SIDECAR_SUFFIX } from '../stamp/export-file.ts'
import { ContractError, faultOf, type ContractFault } from './faults.ts'

export type ExporterContract = {
  readonly authority: StampAuthority
  /** What the stamp of a file has to say. */
  readonly expected: (name: string) => StampExpectation
  /** Writes its files into this folder, which is empty. */
  readonly exporter: (folder: string) => Promise<unknown>
}

const WATCH_DEADLINE_MS = 5_000

/**
 * Runs an exporter, and verifies every file that it wrote; hidden ones are none. Fails for a file without a stamp, one that was to be seen
 * before its stamp (inotify has them in order), a stamp without a file, a folder, and for an exporter that writes nothing. Gives their names.
 * @throws ContractError naming everything that is wrong; what the exporter throws
 */
export async function requireStampedExports({ authority, expected, exporter }: ExporterContract): Promise<string[]> {
  const folder = await mkdtemp(path.join(tmpdir(), 'signet-contract-'))
  try {
    const { order, entries } = await watched(folder, () => exporter(folder))
    const faults: ContractFault[] = []
    const names = entries.map(({ name }) => name)
    for (const entry of entries) {
      const { name } = entry
      if (!entry.isFile()) faults.push({ where: name, code: 'NO_FILE', detail: 'only files are exported' })
      else if (!name.endsWith(SIDECAR_SUFFIX))
        faults.push(...(await faultsOfFile(folder, name, order, expected(name), authority)))
      else if (!names.includes(name.slice(0, -SIDECAR_SUFFIX.length)))
        faults.push({ where: name, code: 'NO_FILE', detail: 'there is no file that it is the stamp of' })
    }
    if (entries.length === 0) faults.push({ where: 'the exporter', code: 'NO_FILE', detail: 'it wrote nothing' })
    if (faults.length > 0) throw new ContractError(faults)
    return names.filter((name) => !name.endsWith(SIDECAR_SUFFIX)).sort()
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function faultsOfFile(
  folder: string,
  name: string,
  order: readonly string[],
  expectation: StampExpectation,
  authority: StampAuthority,
): Promise<ContractFault[]> {
  const faults: ContractFault[] = []
  const sidecarName = name + SIDECAR_SUFFIX
  try {
    const sidecar = await readFile(path.join(folder, sidecarName)).catch(() => undefined)
    await verifyStamp({ content: await readFile(path.join(folder, name)), sidecar }, expectation, authority)
    const [file, stamp] = [order.indexOf(name), order.indexOf(sidecarName)]
    if (sidecar !== undefined && file !== -1 && (stamp === -1 || file < stamp))
      faults.push({ where: name, code: 'SEEN_UNSTAMPED', detail: 'it was to be seen before its stamp' })
  } catch (error) {
    faults.push(faultOf(name, error))
  }
  return faults
}

/** The names of a folder in the order in which they first appeared while `run` ran, and what is there at its end. */
async function watched(folder: string, run: () => Promise<unknown>) {
  const order: string[] = []
  const watcher = watch(folder, (_event, name) => {
    if (name !== null && !order.includes(name)) order.push(name)
  })
  try {
    await run()
    const all = await readdir(folder, { withFileTypes: true })
    const entries = all.filter(({ name }) => !name.startsWith('.'))
    const deadline = Date.now() + WATCH_DEADLINE_MS
    while (entries.some(({ name }) => !order.includes(name)) && Date.now() < deadline) await sleep(10)
    return { order, entries }
  } finally {
    watcher.close()
  }
}
