// An application as there are many: it answers JSON, finishes what it has begun when it is told to stop, and can be run as a job.
import { createServer } from 'node:http'

const PORT = Number(process.env.PORT ?? 8080)
const say = (line) => process.stdout.write(`${JSON.stringify({ at: new Date().toISOString(), ...line })}\n`)

const ROUTES = {
  '/reports/q3': {
    title: 'Revenue of the third quarter',
    rows: [
      { region: 'north', amount: 1200 },
      { region: 'south', amount: 800 },
    ],
  },
  '/drafts/9': { title: 'Outlook', state: 'draft' },
  '/people/7': { id: 7, name: 'Grace Example', email: 'grace@example.com', iban: 'DE89370400440532013000' },
  '/': { service: 'demo', pod: process.env.HOSTNAME ?? '' },
}

// `job URL`: asks once, says what it got, and leaves.
if (process.argv[2] === 'job') {
  const response = await fetch(process.argv[3] ?? '')
  say({ job: response.status, body: await response.text() })
  process.exit(response.ok ? 0 : 1)
}

const server = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://demo')
  const answer = () => {
    const body = ROUTES[pathname]
    response.writeHead(body === undefined ? 404 : 200, { 'content-type': 'application/json' })
    response.end(JSON.stringify(body ?? { error: `nothing at ${pathname}` }))
    say({ method: request.method, path: pathname, from: request.socket.remoteAddress })
  }
  setTimeout(answer, Math.min(Number(searchParams.get('wait') ?? 0), 20_000))
})
server.listen(PORT, () => say({ listening: PORT }))

process.on('SIGTERM', () => {
  say({ stopping: true })
  server.close(() => {
    say({ stopped: true })
    process.exit(0)
  })
  server.closeIdleConnections()
})
