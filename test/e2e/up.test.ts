import { spawn, type ChildProcess } from 'node:child_process'
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort, startJsonServer, type RealService } from '#test/support/real-services.ts'

/**
 * `SIGNET_UPSTREAM=http://… npm start`: a service of one's own behind the proxy. It is started, used as its guide says, stopped in
 * three ways, and started again. (`test/up` does the same with the demo service, and what stands in the way of a start.)
 */
const MAIN = path.resolve(import.meta.dirname, '../../cli/main.ts')
const PORTS = [
  'SIGNET_EXTERNAL_PORT',
  'SIGNET_INTERNAL_PORT',
  'SIGNET_ADMIN_PORT',
  'SIGNET_LEDGER_PORT',
  'SIGNET_GOVERNANCE_PORT',
]

let folder: string
let service: RealService
let env: Record<string, string>
const running = new Set<ChildProcess>()

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'signet-e2e-up-'))
  // PostgreSQL does not run as root; its account has to be able to pass through.
  await chmod(folder, 0o711)
  service = await startJsonServer()
  env = {
    PATH: process.env['PATH'] ?? '',
    HOME: folder,
    SIGNET_STATE_DIR: path.join(folder, 'state'),
    SIGNET_UPSTREAM: service.url,
  }
  // Passed on to the proxy: when everything dies at once, it waits that long for a ledger that is gone.
  env['SIGNET_DRAIN_MS'] = '3000'
  for (const name of PORTS) env[name] = String(await freePort())
})
afterAll(async () => {
  for (const child of running) child.kill('SIGTERM')
  await Promise.all([...running].map((child) => new Promise((resolve) => child.once('close', resolve))))
  await service?.stop()
  await rm(folder, { recursive: true, force: true })
})

type Run = {
  readonly pid: number
  readonly child: ChildProcess
  readonly exited: Promise<number | null>
  output(): string
  guide(): Promise<string>
}

function start(): Run {
  const child = spawn(process.execPath, [MAIN, 'up'], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] })
  running.add(child)
  let output = ''
  const keep = (chunk: Buffer): void => {
    output += chunk.toString()
  }
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  const exited = new Promise<number | null>((resolve) => {
    child.once('exit', (code) => {
      running.delete(child)
      resolve(code)
    })
  })
  return {
    pid: child.pid ?? 0,
    child,
    exited,
    output: () => output,
    async guide() {
      while (!output.includes('signet verify --ledger')) {
        if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}:\n${output}`)
        await sleep(50)
      }
      return output
    },
  }
}

function shell(line: string): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve) => {
    // As printed; `npx signet` without npm's own start-up.
    const child = spawn('/bin/sh', ['-c', line.replace(/^npx signet/, `'${process.execPath}' '${MAIN}'`)], {
      cwd: folder,
      env,
    })
    let output = ''
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.once('close', (code) => resolve({ code, output }))
  })
}

/** Every process below `root`, by the process table. */
async function descendants(root: number): Promise<number[]> {
  const parents = new Map<number, number>()
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const status = await readFile(`/proc/${name}/status`, 'utf8').catch(() => '')
    parents.set(Number(name), Number(/^PPid:\t(\d+)$/m.exec(status)?.[1] ?? 0))
  }
  const isBelow = (pid: number): boolean => {
    const parent = parents.get(pid) ?? 0
    return parent === root || (parent > 1 && isBelow(parent))
  }
  return [...parents.keys()].filter(isBelow)
}

/** What still runs of these, by name. A zombie is gone: whoever inherited it has only to take note of it. */
async function alive(pids: readonly number[]): Promise<string[]> {
  const stats = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')))
  return stats
    .filter((stat) => stat !== '' && !/\) [ZX] /.test(stat))
    .map((stat) => stat.slice(0, stat.indexOf(')') + 3))
}

async function isFree(port: number): Promise<boolean> {
  const server = net.createServer()
  const free = await new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => resolve(true))
  })
  if (free) await new Promise((resolve) => server.close(resolve))
  return free
}

async function expectAllGone(pids: readonly number[], withinMs: number): Promise<void> {
  expect(pids.length).toBeGreaterThan(4)
  await expect.poll(() => alive(pids), { timeout: withinMs, message: 'processes that are still there' }).toEqual([])
  for (const name of PORTS) expect(await isFree(Number(env[name])), name).toBe(true)
}

async function ledgerHead(): Promise<number> {
  await sleep(500)
  const { code, output } = await shell('npx signet verify --ledger --json')
  expect(code, output).toBe(0)
  return (JSON.parse(output) as { head: { seq: number } }).head.seq
}

test("a service of one's own: every command of the guide works; stopped and started again, everything is still proven", async () => {
  const external = `http://127.0.0.1:${env['SIGNET_EXTERNAL_PORT']}`
  const internal = `http://127.0.0.1:${env['SIGNET_INTERNAL_PORT']}`
  const proof = `npx signet verify car.json --target /cars/1 --method GET --status 200 --tenant demo --channel external`

  const first = start()
  const guide = await first.guide()
  expect(guide).toContain(service.url)
  const commands = [...guide.matchAll(/^ {2}((?:curl|npx) .*)$/gm)].map(([, command = '']) => command)
  expect(commands.length).toBeGreaterThanOrEqual(3)
  for (const command of commands) {
    // An event reaches the ledger a moment after the answer that it is about.
    if (command.includes('/api/audit/logs')) await sleep(1_000)
    const { code, output } = await shell(command)
    expect(code, `${command}\n${output}`).toBe(0)
    if (command.includes(' -si ')) expect(output, command).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
    if (command.includes('/api/audit/logs'))
      expect(JSON.parse(output), command).toMatchObject({ items: [expect.anything(), expect.anything()] })
  }
  const car = await fetch(`${external}/cars/1`)
  const hash = car.headers.get('compliance-stamp') ?? ''
  await writeFile(path.join(folder, 'car.json'), Buffer.from(await car.arrayBuffer()))
  expect(await shell(proof)).toMatchObject({ code: 0, output: expect.stringMatching(/^verified/) })
  expect(await shell(`npx signet verify '${external}/movies?_page=3&_limit=2'`)).toMatchObject({ code: 0 })
  expect(await shell(`npx signet verify ${internal}/riots`)).toMatchObject({
    code: 0,
    output: expect.stringContaining('confidential; GDPR; pending-approval'),
  })
  expect(await shell(`npx signet verify ${external}/riots`)).toMatchObject({
    code: 1,
    output: expect.stringContaining('POLICY_DENIED'),
  })
  const before = await ledgerHead()

  const processes = await descendants(first.pid)
  first.child.kill('SIGINT')
  expect(await first.exited, first.output()).toBe(0)
  await expectAllGone(processes, 1_000)

  const second = start()
  await second.guide()
  expect(await ledgerHead()).toBeGreaterThan(before)
  expect((await shell('npx signet verify --ledger')).output).toContain('contains the head of the last verification')
  expect(await shell(proof)).toMatchObject({ code: 0 })
  // Its stamp is no longer in the proxy's memory: it comes from the ledger.
  const stamp = await fetch(`${external}/.well-known/signet/stamps/${hash}`)
  expect(stamp.status).toBe(200)
  expect(await stamp.json()).toMatchObject({ subject: { channel: 'external', status: 200 } })

  // Not even kill -9 leaves anything behind, and what it interrupted is whole.
  const orphans = await descendants(second.pid)
  expect((await fetch(`${external}/cars/2`)).status).toBe(200)
  const known = await ledgerHead()
  second.child.kill('SIGKILL')
  await second.exited
  await expectAllGone(orphans, 30_000)

  const third = start()
  await third.guide()
  expect(await ledgerHead()).toBeGreaterThan(known)
  expect(await shell(proof)).toMatchObject({ code: 0 })
  await service.stop()
  const orphaned = await shell(`curl -si ${external}/cars/1`)
  expect(orphaned.output).toMatch(/^HTTP\/1\.1 502 [^]*UPSTREAM_UNREACHABLE/)
  third.child.kill('SIGTERM')
  expect(await third.exited, third.output()).toBe(0)
})
