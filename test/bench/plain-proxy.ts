// Plain @fastify/http-proxy as its README has it: what Signet is compared with. One process of its own.
import httpProxy from '@fastify/http-proxy'
import Fastify from 'fastify'

const server = Fastify()
await server.register(httpProxy, { upstream: process.argv[2] as string })
process.send?.({ url: await server.listen({ port: 0, host: '127.0.0.1' }) })
process.once('disconnect', () => process.exit())
