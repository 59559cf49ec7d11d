// The upstream where nginx is not installed: a bare node:http server. One process of its own, run by upstream.ts.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { customerJson, SIZES } from './payload.ts'

const bodies = new Map<string, Buffer>(SIZES.map(({ name, bytes }) => [name, customerJson(bytes)]))
const server = createServer((request, response) => {
  const body = bodies.get(request.url?.split('/')[1] ?? '')
  if (body === undefined) response.writeHead(404).end()
  else response.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length }).end(body)
})
server.keepAliveTimeout = 600_000
server.listen(0, '127.0.0.1', () => {
  process.send?.({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
})
process.once('disconnect', () => process.exit())
