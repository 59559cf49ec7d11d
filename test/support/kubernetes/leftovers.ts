import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { runTool } from '#tools/kubernetes/run-tool.ts'
import { REMOVE_CGROUPS } from './namespaces.ts'

const OWNER = 'owner.json'
/** When a process began, in the kernel's ticks: with its id, this is one process and no other. */
type Owner = {
  readonly keeper: number
  readonly keeperStart: string
  readonly holder: number
  readonly holderStart: string
}

/** Says in a node's folder who cleans up after it. */
export async function writeOwner(folder: string, keeper: number, holder: number): Promise<void> {
  const owner: Owner = { keeper, keeperStart: await startOf(keeper), holder, holderStart: await startOf(holder) }
  await writeFile(path.join(folder, OWNER), JSON.stringify(owner))
}

/** Does what a keeper that was killed, too, could not do: ends nodes that nobody looks after, and removes what they left. */
export async function removeLeftovers(prefix: string): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    if (!name.startsWith(prefix)) continue
    const folder = path.join(tmpdir(), name)
    const text = await readFile(path.join(folder, OWNER), 'utf8').catch(() => null)
    // Without one it is just being made, or just being removed.
    if (text === null) continue
    const owner = JSON.parse(text) as Owner
    if ((await startOf(owner.keeper)) === owner.keeperStart) continue
    if ((await startOf(owner.holder)) === owner.holderStart) process.kill(owner.holder, 'SIGKILL')
    await runTool('sh', ['-c', REMOVE_CGROUPS, 'leftovers', folder]).catch(() => undefined)
    await rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 500 })
  }
}

/** Empty for a process that is not there, or has ended and nobody has asked yet how. */
async function startOf(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  // After the name, which may hold anything, in parentheses: fields 3 (state) and 22 (start time) of proc(5).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields[0] === 'Z' || fields[0] === 'X' ? '' : (fields[19] ?? '')
}
