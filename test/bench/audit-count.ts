import { generateKeyPairSync } from 'node:crypto'
import path from 'node:path'
import type { LedgerAccess } from '#test/support/proxy-stack.ts'
import { startScript } from './child.ts'

export type CountingLedger = {
  readonly access: LedgerAccess
  /** Events received in order and without a hole, and those of them that hold a stamp. */
  count(): Promise<{ items: number; stamps: number }>
  stop(): Promise<void>
}

/** `ledger-server.ts` with a key of its own. */
export async function startCountingLedger(tenant: string, cpus: string | undefined): Promise<CountingLedger> {
  const pair = generateKeyPairSync('ed25519')
  const publicEntry = {
    use: 'ack',
    alg: 'Ed25519',
    key_id: 'ack-1',
    public_key: pair.publicKey.export({ type: 'spki', format: 'der' }).toString('base64url'),
    not_before: '2020-01-01T00:00:00.000Z',
    not_after: '2100-01-01T00:00:00.000Z',
  }
  const private_key = pair.privateKey.export({ type: 'pkcs8', format: 'der' }).toString('base64url')
  const keyring = JSON.stringify({ version: 1, keys: [{ ...publicEntry, private_key }] })
  const child = await startScript(path.join(import.meta.dirname, 'ledger-server.ts'), [tenant, keyring], cpus)
  return {
    access: { url: child.url, token: 'benchmark', ackKey: publicEntry },
    count: () =>
      new Promise((resolve) => {
        child.process.once('message', (message: { items: number; stamps: number }) => resolve(message))
        child.process.send('count')
      }),
    stop: () => child.stop(),
  }
}
