import { execFile } from 'node:child_process'
import path from 'node:path'
import type { LedgerStack } from '#test/support/ledger.ts'

export type Fsck = {
  readonly code: number
  readonly report: {
    readonly result: string
    readonly links: number
    readonly first_bad?: { readonly fault: string; readonly detail: string }
  }
}

/** `signet fsck` against a server that is not the stack's own, with its keyring. @throws where it could not read something */
export function fsck(stack: Pick<LedgerStack, 'keyringFile'>, url: string, ...args: string[]): Promise<Fsck> {
  const main = path.join(import.meta.dirname, '../../cli/main.ts')
  const env = { PATH: process.env['PATH'], SIGNET_LEDGER_AUDIT_DB_URL: url, SIGNET_LEDGER_KEYRING: stack.keyringFile }
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [main, 'fsck', '--json', ...args], { env }, (error, stdout, stderr) => {
      const code = typeof error?.code === 'number' ? error.code : 0
      if (stdout === '') reject(new Error(`fsck: ${code} ${stderr}`))
      else resolve({ code, report: JSON.parse(stdout) as Fsck['report'] })
    })
  })
}

/** The log's newest checkpoint as text, and of how many leaves it is. */
export async function newestCheckpoint(ledgerUrl: string): Promise<{ note: string; size: number }> {
  const note = await (await fetch(`${ledgerUrl}/log/checkpoint`)).text()
  return { note, size: Number(note.split('\n')[1]) }
}
