import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startGovernanceStack, type GovernanceStack } from '#test/support/governance.ts'
import { startObjectStore } from '#test/support/object-store.ts'

/** Governance with all that a call may need: files are kept, and secrets can be sealed, so that nothing answers that it is not set up. */
export async function startWholeStack(): Promise<{ stack: GovernanceStack; stop(): Promise<void> }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'signet-whole-'))
  const store = await startObjectStore()
  const stop = async (): Promise<void> => {
    await store.stop()
    await rm(folder, { recursive: true, force: true })
  }
  try {
    await store.createBucket('signet-governance-evidence', { lock: false })
    const key = path.join(folder, 'secrets.key')
    await writeFile(key, randomBytes(32).toString('base64'), { mode: 0o600 })
    const stack = await startGovernanceStack({
      env: {
        SIGNET_EVIDENCE_ENDPOINT: store.endpoint,
        AWS_ACCESS_KEY_ID: store.credentials.accessKeyId,
        AWS_SECRET_ACCESS_KEY: store.credentials.secretAccessKey,
        SIGNET_GOVERNANCE_SECRETS_KEY_FILE: key,
      },
    })
    return {
      stack,
      stop: async () => {
        await stack.stop()
        await stop()
      },
    }
  } catch (error) {
    await stop()
    throw error
  }
}
