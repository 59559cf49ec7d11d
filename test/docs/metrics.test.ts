import { readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { createGovernanceMetrics } from '#governance/metrics.ts'
import { buildApp as buildLedgerApp, type LedgerDeps } from '#ledger/app.ts'
import { createArchiveMetrics } from '#ledger/archive/metrics.ts'
import { createExportMetrics } from '#ledger/export/metrics.ts'
import { createRetentionMetrics } from '#ledger/retention/metrics.ts'
import { createErasureMetrics } from '#ledger/seal/metrics.ts'
import { createTreeMetrics } from '#ledger/tree/upkeep.ts'
import { createVerifierMetrics } from '#ledger/verifier/upkeep.ts'
import { createWallLogMetrics } from '#ledger/wall-log/metrics.ts'
import { createBundlesMetrics } from '#operator/bundles/metrics.ts'
import { createOperatorMetrics } from '#operator/metrics.ts'
import { buildWebhooksApp, type WebhooksDeps } from '#operator/webhooks/app.ts'
import { createAuditMetrics } from '#proxy/audit/audit-metrics.ts'
import { createProxyMetrics } from '#proxy/metrics.ts'
import { createMetricsRegistry, type MetricsRegistry } from '#runtime/telemetry/metrics.ts'

const PAGE = readFileSync(path.resolve(import.meta.dirname, '../../docs/reference/metrics.md'), 'utf8')

/** Rows of the table under a heading: family, type, labels. */
function documented(heading: string): string[] {
  const section = PAGE.split(/^## /m).find((text) => text.startsWith(`${heading}\n`)) ?? ''
  return [...section.matchAll(/^\| `([a-z_]+)` \| (\w+) \| ([^|]*) \| (.+) \|$/gm)].map(
    ([, name, type, labels = '', meaning]) => `${name} ${type} ${labels.replaceAll('`', '').trim()}: ${meaning}`,
  )
}

async function declared(registry: MetricsRegistry): Promise<string[]> {
  const families = (await registry.getMetricsAsJSON()) as unknown as { name: string; type: string; help: string }[]
  return families.map(({ name, type, help }) => {
    const { labelNames = [] } = registry.getSingleMetric(name) as unknown as { labelNames?: string[] }
    return `${name} ${type} ${labelNames.filter((label) => label !== 'le').join(', ')}: ${help.replace(/\.$/, '')}`
  })
}

describe('docs/reference/metrics.md has what /metrics declares, with type, labels and meaning', () => {
  it('of the proxy', async () => {
    const registry = createMetricsRegistry({ processMetrics: false })
    createProxyMetrics(registry, { inFlight: () => 0, bufferedBytes: () => 0 })
    createAuditMetrics(registry)
    expect(documented('Proxy').sort()).toEqual((await declared(registry)).sort())
  })

  it('of the ledger', async () => {
    const registry = createMetricsRegistry({ processMetrics: false })
    // Nothing but the declarations is wanted: no request comes, so that the databases are never asked.
    const nothing = new Proxy({}, { get: () => () => undefined })
    buildLedgerApp({
      registry,
      wall: nothing,
      work: nothing,
      keys: nothing,
      authenticator: nothing,
      clock: () => new Date(),
      log: silent(),
    } as unknown as LedgerDeps)
    createErasureMetrics(registry)
    createTreeMetrics(registry)
    createExportMetrics(registry)
    createArchiveMetrics(registry)
    createRetentionMetrics(registry)
    createVerifierMetrics(registry)
    createWallLogMetrics(registry)
    expect(documented('Ledger').sort()).toEqual((await declared(registry)).sort())
  })

  it('of the operator', async () => {
    const registry = createMetricsRegistry({ processMetrics: false })
    createOperatorMetrics(registry)
    createBundlesMetrics(registry)
    buildWebhooksApp({ registry, log: silent() } as unknown as WebhooksDeps)
    expect(documented('Operator').sort()).toEqual((await declared(registry)).sort())
  })

  it('of governance', async () => {
    const registry = createMetricsRegistry({ processMetrics: false })
    createGovernanceMetrics(registry)
    expect(documented('Governance').sort()).toEqual((await declared(registry)).sort())
  })
})

function silent(): object {
  const log = { child: () => log, level: 'silent' } as Record<string, unknown>
  for (const level of ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']) log[level] = () => undefined
  return log
}
