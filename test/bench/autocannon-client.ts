// The client where wrk is not installed. Prints one line of JSON like wrk.lua. One process of its own, run by load.ts.
import autocannon from 'autocannon'

const [url = '', path = '', seconds = '1', connections = '1'] = process.argv.slice(2)
const headers = { accept: 'application/json', 'user-agent': 'bench' }
const result = await autocannon({
  url,
  connections: Number(connections),
  duration: Number(seconds),
  requests: Array.from({ length: 1_000 }, (_, index) => ({
    method: 'GET' as const,
    path: `${path}${index + 1}`,
    headers,
  })),
})
process.stdout.write(
  `${JSON.stringify({
    requests: result.requests.total,
    seconds: result.duration,
    p50Ms: result.latency.p50,
    p99Ms: result.latency.p99,
    failures: result.errors + result.timeouts + result.non2xx,
  })}\n`,
)
