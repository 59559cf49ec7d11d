import { existsSync } from 'node:fs'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { signBundle } from '#engine/bundle/sign.ts'
import { readStandardPack } from '#engine/bundle/standard.ts'
import { ROOT } from '../state.ts'

const YEAR_MS = 365 * 24 * 60 * 60 * 1000

/**
 * Signs the shipped pack with this machine's own key. Each start is a new sequence: a proxy takes it over the one before.
 * @throws SignetError BUNDLE_INVALID when the pack in `policies/dist` is not whole
 */
export async function writeStandardBundle(
  file: string,
  key: Parameters<typeof signBundle>[0]['key'],
  now: Date,
): Promise<void> {
  const bundle = await signBundle({
    modules: await readStandardPack(path.join(ROOT, 'policies/dist/standard')),
    policy: {},
    scope: '*',
    sequence: Math.floor(now.getTime() / 1000),
    issuedAt: now,
    expiresAt: new Date(now.getTime() + YEAR_MS),
    key,
  })
  await mkdir(path.dirname(file), { recursive: true })
  await writeFile(`${file}.new`, bundle)
  await rename(`${file}.new`, file)
}

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
