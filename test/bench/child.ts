import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import net, { type AddressInfo } from 'node:net'
import { pinned } from './cores.ts'

export type Child = { readonly process: ChildProcess; readonly pid: number; stop(): Promise<void> }

/** A script of this folder under our Node. It says where it listens by an IPC message, `{ url }`. */
export async function startScript(
  script: string,
  args: readonly string[],
  cpus: string | undefined,
): Promise<Child & { readonly url: string }> {
  const child = launch(pinned(cpus, [process.execPath, script, ...args]), ['ignore', 'inherit', 'inherit', 'ipc'])
  const url = await new Promise<string>((resolve, reject) => {
    child.process.once('message', (message: { url: string }) => resolve(message.url))
    child.process.once('exit', (status) => reject(new Error(`${script} ended with ${status} before it listened`)))
  })
  return { ...child, url }
}

export function launch(
  [program, args]: [string, string[]],
  stdio: ('ignore' | 'inherit' | 'pipe' | 'ipc')[] = ['ignore', 'inherit', 'inherit'],
): Child {
  const child = spawn(program, args, { stdio })
  const exited = once(child, 'exit')
  return {
    process: child,
    pid: child.pid ?? 0,
    async stop() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
      await exited
    },
  }
}

/** A port that was free a moment ago, for programs that cannot say which one they took. */
export async function freePort(): Promise<number> {
  const server = net.createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** @throws after 5 s without an answer */
export async function answers(url: string): Promise<void> {
  for (const deadline = Date.now() + 5_000; ;) {
    try {
      await (await fetch(url)).arrayBuffer()
      return
    } catch (error) {
      if (Date.now() > deadline) throw error
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}
