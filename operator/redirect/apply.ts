import { spawn } from 'node:child_process'
import { SignetError } from '#core/error/signet-error.ts'
import { TABLE } from './ruleset.ts'

const TIMEOUT_MS = 20_000
const MAX_OUTPUT = 4_096

/** Runs `nft` without a shell; `input` goes to its standard input. @returns what it printed, cut. @throws SignetError REDIRECT_FAILED */
export type RunNft = (args: readonly string[], input: string | null) => Promise<string>

/** Puts the rules into force and sees that they are. @throws SignetError REDIRECT_FAILED: the pod must not start then */
export async function applyRuleset(ruleset: string, nft: RunNft): Promise<void> {
  await nft(['-f', '-'], ruleset)
  const listed = await nft(['list', 'table', 'inet', TABLE], null)
  if (!listed.includes('chain input') || !listed.includes('policy drop'))
    throw new SignetError('REDIRECT_FAILED', 'nft took the rules, but they are not in force')
}

export function createNft(command: string): RunNft {
  return (args, input) =>
    new Promise((resolve, reject) => {
      const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] })
      // Not spawn's own timeout: after a failed start it would keep the process for as long.
      const late = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS)
      late.unref()
      let out = ''
      let err = ''
      child.stdout.on('data', (chunk: Buffer) => {
        if (out.length < MAX_OUTPUT * 4) out += chunk.toString('utf8')
      })
      child.stderr.on('data', (chunk: Buffer) => {
        if (err.length < MAX_OUTPUT) err += chunk.toString('utf8')
      })
      child.once('error', (cause) =>
        reject(new SignetError('REDIRECT_FAILED', `${command} cannot be run: ${cause.message}`, { cause })),
      )
      child.once('close', (code, signal) => {
        if (code === 0) resolve(out)
        else reject(failure(command, args, code ?? signal, err))
      })
      // It may be gone before it has read everything; its exit code says why.
      child.stdin.on('error', () => {})
      child.stdin.end(input ?? '')
    })
}

function failure(command: string, args: readonly string[], how: number | string | null, err: string): SignetError {
  const hint = /Operation not permitted/.test(err)
    ? ' (the container needs NET_ADMIN; a node whose runtime does not grant it needs a CNI that captures, see docs/injection.md)'
    : ''
  return new SignetError(
    'REDIRECT_FAILED',
    `${command} ${args.join(' ')} failed (${how}): ${err.trim().split('\n').slice(0, 5).join('; ').slice(0, 600)}${hint}`,
  )
}
