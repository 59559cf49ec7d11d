import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { createBundleClient } from '#engine/bundle/client.ts'
import { remoteTrust } from '#engine/bundle/trust-source.ts'
import { watchBundle } from '#engine/bundle/watch.ts'
import { PASS, ruleSource } from '#engine/compile/fixtures/sample.ts'
import type { BundleParts, Publisher } from '#operator/bundles/publisher.ts'
import { startApiServer } from '#test/support/api-server.ts'
import { until } from '#test/support/proxy-fixture.ts'
import { bundlesStack, moduleOf } from './bundles-stack.ts'

export type DistributionBench = {
  readonly publisher: Pick<Publisher, 'publish'>
  /** Of the replicas that proxies pull from, `https://…`. */
  readonly urls: readonly string[]
  readonly ca: string
  readonly namespace: string
  /** What each change publishes; made before it is measured, so that compilation is not in the times. */
  readonly changes: readonly BundleParts[]
  readonly proxies: number
  /** A pod token for the proxy of that number. */
  readonly tokenOf: (proxy: number) => Promise<string>
  /** For token files. */
  readonly directory: string
}

/** Milliseconds from the call of `publish` to the bundle verified and taken over, over all proxies and changes. */
export type DistributionTimes = {
  readonly samples: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
  /** Until `publish` resolved: signed and stored. */
  readonly publishP50Ms: number
}

/**
 * Measures change → in force at N proxies: their own watchers (long polling, verification) in this process, spread over the replicas,
 * against real servers. What a proxy does then, compiling the wasm, is not in it.
 */
export async function measureDistribution(bench: DistributionBench): Promise<DistributionTimes> {
  const stopping = new AbortController()
  const arrivals = new Map<string, number[]>()
  const watching: Promise<void>[] = []
  for (let proxy = 0; proxy < bench.proxies; proxy++) {
    const tokenFile = path.join(bench.directory, `token-${proxy}`)
    await writeFile(tokenFile, await bench.tokenOf(proxy), { mode: 0o600 })
    const client = createBundleClient({ ca: bench.ca, tokenFile })
    const url = bench.urls[proxy % bench.urls.length] ?? ''
    const watch = async (): Promise<void> => {
      await watchBundle({
        source: `${url}/v1/bundles/namespace/${bench.namespace}`,
        intervalMs: 1_000,
        waitSeconds: 60,
        client,
        trust: remoteTrust(`${url}/v1/bundle-trust`, client),
        scope: `namespace/${bench.namespace}`,
        onBundle: ({ revision }) => {
          const times = arrivals.get(revision) ?? []
          arrivals.set(revision, times)
          times.push(performance.now())
        },
        onError: (error) => process.stderr.write(`${error.code}: ${error.message}\n`),
        signal: stopping.signal,
      })
      await client.close()
    }
    watching.push(watch())
  }
  const samples: number[] = []
  const published: number[] = []
  try {
    for (const [index, parts] of bench.changes.entries()) {
      const startedMs = performance.now()
      const { revision } = await bench.publisher.publish(bench.namespace, parts)
      if (index > 0) published.push(performance.now() - startedMs)
      const times = await until(
        `all proxies at ${revision}`,
        () => {
          const found = arrivals.get(revision ?? '') ?? []
          return found.length === bench.proxies ? found : null
        },
        120_000,
      )
      // The first is the proxies' start.
      if (index > 0) samples.push(...times.map((time) => time - startedMs))
    }
  } finally {
    stopping.abort()
    await Promise.all(watching)
  }
  samples.sort((a, b) => a - b)
  published.sort((a, b) => a - b)
  const at = (of: readonly number[], share: number): number =>
    Math.round(of[Math.min(of.length - 1, Math.floor(of.length * share))] ?? NaN)
  return {
    samples: samples.length,
    p50Ms: at(samples, 0.5),
    p99Ms: at(samples, 0.99),
    maxMs: at(samples, 1),
    publishP50Ms: at(published, 0.5),
  }
}

/** `npm run bench:bundles -- --proxies 50 --changes 20 --rules 50` */
async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      proxies: { type: 'string', default: '50' },
      changes: { type: 'string', default: '20' },
      rules: { type: 'string', default: '50' },
    },
  })
  const [proxies, changes, rules] = [Number(values.proxies), Number(values.changes), Number(values.rules)]
  const server = await startApiServer()
  const directory = await mkdtemp(path.join(tmpdir(), 'signet-bundles-bench-'))
  const stack = await bundlesStack(server)
  try {
    await server.createNamespace('shop')
    const replicas = [await stack.start('replica-one'), await stack.start('replica-two')]
    const root = await moduleOf(
      'root',
      Array.from({ length: rules }, (_, n) => ruleSource(`rule-${n}`, PASS)),
    )
    const parts: BundleParts[] = []
    for (let n = 0; n <= changes; n++) {
      const own = await moduleOf('namespace/shop', [
        ruleSource('own', `decision := {"evaluated": true, "violations": [], "n": ${n}}`),
      ])
      parts.push({ root: { state: 'compiled', module: root }, namespace: { state: 'compiled', module: own } })
    }
    const times = await measureDistribution({
      publisher: replicas[0]!.lead(1).publisher,
      urls: replicas.map(({ url }) => url),
      ca: stack.ca,
      namespace: 'shop',
      changes: parts,
      proxies,
      tokenOf: (proxy) =>
        server.createPodToken({
          namespace: 'shop',
          serviceAccount: 'default',
          pod: `web-${proxy}`,
          audience: 'signet-bundles',
        }),
      directory,
    })
    process.stdout.write(`${JSON.stringify({ proxies, rules, ...times })}\n`)
  } finally {
    await stack.stop()
    await server.stop()
    await rm(directory, { recursive: true, force: true })
  }
}

if (import.meta.main) await main()
