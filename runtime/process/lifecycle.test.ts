import { spawn, type ChildProcess } from 'node:child_process'
import { afterEach, expect, it } from 'vitest'

const LIFECYCLE = new URL('lifecycle.ts', import.meta.url).href
const ERROR = new URL('../../core/error/signet-error.ts', import.meta.url).href
const children = new Set<ChildProcess>()
afterEach(() => {
  for (const child of children) child.kill('SIGKILL')
  children.clear()
})

/** Runs a process whose `start` (and `stop`) are the code given; it prints `ready` when started. */
function run(start: string, options: { ipc?: boolean; drainMs?: number; sameSignalMs?: number } = {}) {
  const code = `
    import { runProcess } from ${JSON.stringify(LIFECYCLE)}
    import { SignetError } from ${JSON.stringify(ERROR)}
    import { setTimeout as sleep } from 'node:timers/promises'
    const keepAlive = setInterval(() => {}, 1000)
    const ready = (stop) => { setImmediate(() => console.log('ready')); return { stop } }
    await runProcess({ name: 'test', drainMs: ${options.drainMs ?? 10_000}, sameSignalMs: ${options.sameSignalMs ?? 0}, start: async (signal) => { ${start} } })`
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
    stdio: options.ipc ? ['ignore', 'pipe', 'pipe', 'ipc'] : ['ignore', 'pipe', 'pipe'],
  })
  children.add(child)
  let output = ''
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()))
  child.stderr?.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const exited = new Promise<number | null>((resolve) => {
    // With an IPC channel that we closed ourselves there is no 'close'.
    child.once(options.ipc ? 'exit' : 'close', resolve)
  })
  const saw = async (text: string): Promise<void> => {
    while (!output.includes(text)) await new Promise((resolve) => setTimeout(resolve, 10))
  }
  return { child, exited, saw, output: () => output }
}

it('drains on SIGTERM and leaves with 0', async () => {
  const process = run(`return ready(async () => { await sleep(50); console.log('drained') })`)
  await process.saw('ready')
  process.child.kill('SIGTERM')
  expect(await process.exited).toBe(0)
  expect(process.output()).toContain('drained')
})

it('leaves at once on the second signal', async () => {
  const process = run(`return ready(async () => { console.log('draining'); await sleep(60000) })`)
  await process.saw('ready')
  process.child.kill('SIGTERM')
  await process.saw('draining')
  process.child.kill('SIGINT')
  expect(await process.exited).toBe(130)
})

it('takes a signal that comes again at once for the same one, where asked to', async () => {
  const process = run(
    `return ready(async () => { console.log('draining'); await sleep(200); console.log('drained') })`,
    {
      sameSignalMs: 60_000,
    },
  )
  await process.saw('ready')
  process.child.kill('SIGINT')
  await process.saw('draining')
  process.child.kill('SIGINT')
  expect(await process.exited).toBe(0)
  expect(process.output()).toContain('drained')
})

it('leaves with 1 when draining takes too long', async () => {
  const process = run(`return ready(() => sleep(60000))`, { drainMs: 100 })
  await process.saw('ready')
  process.child.kill('SIGINT')
  expect(await process.exited).toBe(1)
})

it('gives draining the time that the configuration says', async () => {
  const later = "return { drainMs: 20000, stop: async () => { await sleep(500); console.log('drained') } }"
  const patient = run(`console.log('ready'); ${later}`, { drainMs: 100 })
  await patient.saw('ready')
  patient.child.kill('SIGINT')
  expect(await patient.exited).toBe(0)
  const short = run(`console.log('ready'); return { drainMs: 100, stop: () => sleep(60000) }`)
  await short.saw('ready')
  short.child.kill('SIGINT')
  expect(await short.exited).toBe(1)
})

it('drains when the parent that holds its channel is gone', async () => {
  const process = run(`return ready(async () => { console.log('drained') })`, { ipc: true })
  await process.saw('ready')
  process.child.disconnect()
  expect(await process.exited).toBe(0)
  await process.saw('drained')
})

it('stops also when it was told to while it started', async () => {
  const process = run(`console.log('starting'); await sleep(300); return ready(async () => { console.log('drained') })`)
  await process.saw('starting')
  process.child.kill('SIGTERM')
  expect(await process.exited).toBe(0)
  expect(process.output()).toContain('drained')
})

it.each([
  ['CONFIG_INVALID', `'A is bad\\nB is bad'`, 78, 'test: cannot start: A is bad\ntest: cannot start: B is bad\n'],
  ['PORT_IN_USE', `'port 1 (x) is already in use'`, 1, 'test: cannot start: port 1 (x) is already in use\n'],
])('a start that fails with %s is one clear line a problem', async (code, message, wantStatus, wantOutput) => {
  const process = run(`throw new SignetError('${code}', ${message})`)
  expect(await process.exited).toBe(wantStatus)
  expect(process.output()).toBe(wantOutput)
})

it.each([
  [
    'an unhandled rejection',
    `setTimeout(() => { void Promise.reject(new Error('boom')) }, 20); return ready(async () => {})`,
  ],
  ['an uncaught exception', `setTimeout(() => { throw new Error('boom') }, 20); return ready(async () => {})`],
])('%s is logged and ends it with 1', async (_name, start) => {
  const process = run(start)
  expect(await process.exited).toBe(1)
  expect(process.output()).toContain('boom')
})
