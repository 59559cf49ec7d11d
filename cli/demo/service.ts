import { createServer, type IncomingMessage, type OutgoingHttpHeaders, type Server } from 'node:http'
import { CUSTOMERS, FORGED, HOME_PAGE, INCOME_STATEMENT, LOGO_PNG, ORDERS_CSV, PRODUCTS } from './content.ts'

type Answer = { readonly status?: number; readonly headers: OutgoingHttpHeaders; readonly body: string | Buffer }

const json = (value: unknown, headers: OutgoingHttpHeaders = {}, status = 200): Answer => ({
  status,
  headers: { 'content-type': 'application/json', ...headers },
  body: `${JSON.stringify(value)}\n`,
})

const ROUTES: Readonly<Record<string, Answer>> = {
  '/': { headers: { 'content-type': 'text/html; charset=utf-8' }, body: HOME_PAGE },
  '/products': json(PRODUCTS, { 'cache-control': 'max-age=60' }),
  '/customers': json(CUSTOMERS),
  // It declares what an approval is bound to: the version of what it sends.
  '/reports/income-statement': json(INCOME_STATEMENT, {
    'signet-artifact-version': '2026-Q3',
    'signet-lineage-transformations': 'consolidate, round',
  }),
  '/exports/orders.csv': {
    headers: { 'content-type': 'text/csv; charset=utf-8', 'content-disposition': 'attachment; filename="orders.csv"' },
    body: ORDERS_CSV,
  },
  '/logo.png': { headers: { 'content-type': 'image/png' }, body: LOGO_PNG },
  '/error': json({ error: 'the warehouse does not answer' }, {}, 500),
  '/forged': json(FORGED),
}

/** The service of `npm start` that the proxy stands in front of. It does not know Signet, but for the headers of one report. */
export function createDemoService(): Server {
  return createServer((request, response) => {
    const { status, headers, body } = answerTo(request)
    response.writeHead(status ?? 200, { ...headers, 'content-length': Buffer.byteLength(body) })
    response.end(request.method === 'HEAD' ? undefined : body)
    request.resume()
  })
}

function answerTo(request: IncomingMessage): Answer {
  const path = (request.url ?? '/').split('?', 1)[0] ?? '/'
  const answer = Object.hasOwn(ROUTES, path) ? ROUTES[path] : undefined
  if (answer === undefined) return json({ error: 'no such page' }, {}, 404)
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return json({ error: 'read only' }, { allow: 'GET, HEAD' }, 405)
  return answer
}
