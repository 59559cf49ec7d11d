import { writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { Agent } from 'node:https'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { container, pod } from '#core/injection/injection.fixture.ts'
import { buildWebhooksApp } from '#operator/webhooks/app.ts'
import { review, webhooksDeps } from '#operator/webhooks/webhooks.fixture.ts'
import { issuePair } from '#runtime/tls/certificate.fixture.ts'

/*
 * How long the injection webhook keeps the API server waiting: reviews of a big pod over TLS, at a steady rate (an open loop: a slow
 * answer delays no other request). Goal: p99 of 20 ms at 50/s.
 *
 *   node test/bench/webhook.ts [--rate N] [--seconds N] [--write FILE]
 */
const GOAL_P99_MS = 20
const { values } = parseArgs({
  options: {
    rate: { type: 'string', default: '50' },
    seconds: { type: 'string', default: '20' },
    write: { type: 'string' },
  },
})
const rate = Number(values.rate)
const seconds = Number(values.seconds)
if (!(rate >= 1 && rate <= 5_000 && seconds >= 1)) throw new Error('--rate is 1 to 5000 a second, --seconds 1 or more')

const pair = issuePair('localhost')
const app = buildWebhooksApp(webhooksDeps({ https: { ...pair } }))
await app.listen({ port: 0, host: '127.0.0.1' })
const { port } = app.server.address() as AddressInfo
const agent = new Agent({ ca: pair.cert, keepAlive: true, maxSockets: 64 })

/** A pod as they are: several containers, probes, some tens of variables; 26 KB as a review. */
const body = JSON.stringify(
  review({
    object: pod({
      metadata: { name: 'reports', labels: { app: 'reports' }, annotations: { 'signet.dev/capture': 'redirect' } },
      spec: {
        containers: Array.from({ length: 4 }, (_, index) =>
          container({
            name: `app-${index}`,
            ports: [{ name: `http-${index}`, containerPort: 8080 + index }],
            env: Array.from({ length: 50 }, (_, n) => ({ name: `VARIABLE_${n}`, value: 'x'.repeat(64) })),
            livenessProbe: { httpGet: { port: `http-${index}`, path: '/live' } },
            readinessProbe: { httpGet: { port: `http-${index}`, path: '/ready' } },
          }),
        ),
      },
    }),
  }),
)

function ask(): Promise<number> {
  const began = performance.now()
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host: 'localhost',
        port,
        agent,
        method: 'POST',
        path: '/mutate-pods/namespaces?timeout=5s',
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      },
      (answer) => {
        let text = ''
        answer.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
        answer.once('end', () => {
          if (answer.statusCode === 200 && text.includes('"patchType"')) resolve(performance.now() - began)
          else reject(new Error(`${answer.statusCode}: ${text.slice(0, 200)}`))
        })
      },
    )
    sent.once('error', reject)
    sent.end(body)
  })
}

async function round(count: number): Promise<number[]> {
  const answers: Promise<number>[] = []
  const began = performance.now()
  for (let n = 0; n < count; n++) {
    const due = began + (n * 1_000) / rate
    if (due > performance.now()) await sleep(due - performance.now())
    answers.push(ask())
  }
  return (await Promise.all(answers)).sort((a, b) => a - b)
}

await round(Math.min(200, rate * 4))
const times = await round(rate * seconds)
const at = (share: number): number => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0
const result = {
  rate_per_second: rate,
  reviews: times.length,
  review_bytes: Buffer.byteLength(body),
  p50_ms: round2(at(0.5)),
  p99_ms: round2(at(0.99)),
  max_ms: round2(at(1)),
  goal_p99_ms: GOAL_P99_MS,
}
process.stdout.write(`${JSON.stringify(result, null, 2)}\n`)
if (values.write !== undefined) await writeFile(values.write, `${JSON.stringify(result, null, 2)}\n`)
agent.destroy()
await app.close()
if (result.p99_ms > GOAL_P99_MS) process.exitCode = 1

function round2(value: number): number {
  return Math.round(value * 100) / 100
}
