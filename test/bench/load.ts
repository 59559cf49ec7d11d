import { spawn, spawnSync } from 'node:child_process'
import path from 'node:path'
import { pinned } from './cores.ts'

export type LoadResult = {
  readonly requests: number
  readonly seconds: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** Connection errors, time-outs and any status but 2xx and 3xx. */
  readonly failures: number
}
export type LoadTool = 'wrk' | 'autocannon'

export const CONNECTIONS = 16

/** wrk where it is installed, since it takes a fifth of autocannon's CPU. */
export function loadTool(): LoadTool {
  return spawnSync('wrk', ['-v']).error === undefined ? 'wrk' : 'autocannon'
}

/** Keeps 16 connections busy with GET `url` + `prefix` + 1…1000 in turn, each after the answer to the one before. */
export async function load(
  tool: LoadTool,
  url: string,
  prefix: string,
  seconds: number,
  cpus: string | undefined,
): Promise<LoadResult> {
  const here = import.meta.dirname
  const [program, args] = pinned(
    cpus,
    tool === 'wrk'
      ? ['wrk', '-t1', `-c${CONNECTIONS}`, `-d${seconds}s`, '-s', path.join(here, 'wrk.lua'), url, '--', prefix]
      : [process.execPath, path.join(here, 'autocannon-client.ts'), url, prefix, String(seconds), String(CONNECTIONS)],
  )
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  const line = output.trimEnd().split('\n').at(-1) ?? ''
  if (status !== 0 || !line.startsWith('{')) throw new Error(`${tool} ended with ${status}: ${output}`)
  return JSON.parse(line) as LoadResult
}
