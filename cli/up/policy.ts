import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'

const YEAR_MS = 365 * 24 * 60 * 60 * 1000

/** A starter that its user then edits; one that is there is never touched. */
export async function ensurePolicyData(file: string, kind: 'demo' | 'own', now: Date): Promise<void> {
  if (existsSync(file)) return
  const data =
    kind === 'demo' ? demoPolicyData(new Date(now.getTime() + YEAR_MS)) : { version: 1, routes: [], approvals: [] }
  await writeFile(file, `${JSON.stringify(data, null, 2)}\n`, { flag: 'wx', mode: 0o644 })
}

/** What the demo service's routes are declared as, and the one approval: this version of the statement may go out. */
function demoPolicyData(expiresAt: Date): object {
  return {
    version: 1,
    routes: [
      { template: '/products', classification: 'public' },
      { template: '/customers', classification: 'confidential', regulations: ['GDPR'] },
      { template: '/reports/{name}', classification: 'confidential', regulations: ['SOX'] },
      { template: '/exports/{name}', classification: 'internal' },
    ],
    approvals: [
      {
        id: 'demo-statement-q3',
        resource: '/reports/{name}',
        version: '2026-Q3',
        channel: 'external',
        approved_by: 'compliance@demo.example',
        expires_at: expiresAt.toISOString(),
      },
    ],
  }
}
