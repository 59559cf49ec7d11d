import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { startNode } from '#test/support/node.ts'

const LOOP = path.join(import.meta.dirname, 'node-loop.ts')

/** Everything on this machine that has the node's name in it: processes, mounts, control groups, its folder. */
async function tracesOf(folder: string): Promise<string[]> {
  const name = path.basename(folder)
  const traces = existsSync(folder) ? [folder] : []
  for (const pid of (await readdir('/proc')).filter((one) => /^\d+$/.test(one))) {
    const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (line.includes(name)) traces.push(`${pid} ${line.replaceAll('\0', ' ').slice(0, 100)}`)
  }
  for (const line of (await readFile('/proc/self/mounts', 'utf8')).split('\n')) {
    if (line.includes(name)) traces.push(line)
  }
  for (const root of await readdir('/sys/fs/cgroup')) {
    if (root === name || existsSync(`/sys/fs/cgroup/${root}/${name}`)) traces.push(`/sys/fs/cgroup/${root}`)
  }
  return traces
}

/** A node in another process. */
async function startElsewhere(): Promise<{ folder: string; child: ChildProcess }> {
  const child = spawn(process.execPath, [LOOP], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  return { folder: line.toString().trim(), child }
}

async function expectNoTraces(folder: string): Promise<void> {
  for (const deadline = Date.now() + 30_000; (await tracesOf(folder)).length > 0; await sleep(200)) {
    if (Date.now() > deadline) expect(await tracesOf(folder)).toEqual([])
  }
}

it('leaves nothing of a node whose test was killed', async () => {
  const { folder, child } = await startElsewhere()
  expect((await tracesOf(folder)).length).toBeGreaterThan(5)
  child.kill('SIGKILL')
  await expectNoTraces(folder)
}, 300_000)

it('removes at the next start what was killed together with its keeper', async () => {
  const { folder, child } = await startElsewhere()
  const { keeper } = JSON.parse(await readFile(path.join(folder, 'owner.json'), 'utf8')) as { keeper: number }
  process.kill(keeper, 'SIGKILL')
  child.kill('SIGKILL')
  await sleep(500)
  expect((await tracesOf(folder)).length).toBeGreaterThan(5)
  const node = await startNode()
  await expectNoTraces(folder)
  expect(await node.kubectl(['get', 'nodes', '--output', 'name'])).toBe('node/node1\n')
  await node.stop()
  expect(await tracesOf(path.dirname(node.kubeconfig))).toEqual([])
}, 300_000)
