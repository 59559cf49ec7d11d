import { describe, expect, it } from 'vitest'
import { foreignProtocol, looksLikeTls } from './protocol.ts'

// The names and numbers of ports that charts of well-known projects give.
describe('what is spoken at a port', () => {
  it.each([
    { name: 'http', port: 6379, want: null },
    { name: 'redis', port: 6379, want: 'Redis' },
    { name: 'tcp-redis', port: 7000, want: 'Redis' },
    { name: 'valkey-cart', port: 6379, want: 'Redis' },
    { name: 'redis-exporter', port: 9121, want: null },
    { name: 'service', port: 5432, want: 'PostgreSQL' },
    { name: undefined, port: 3306, want: 'MySQL' },
    { name: undefined, port: 8080, want: null },
    { name: 'rest-api', port: 9092, want: null },
    { name: 'otlp', port: 4317, want: 'gRPC' },
    { name: 'otlp-http', port: 4318, want: null },
    { name: 'grpc', port: 9095, want: 'gRPC' },
    { name: 'grpc-web', port: 9095, want: null },
    { name: 'grpc-api', port: 8728, want: 'gRPC' },
    { name: 'http-memberlist', port: 7946, want: 'gossip' },
    { name: 'h2c', port: 8013, want: 'HTTP/2' },
    { name: 'client', port: 11_211, want: 'memcached' },
    // Nothing of `Object.prototype` is a protocol.
    { name: 'constructor', port: 1, want: null },
  ])('$name:$port is $want', ({ name, port, want }) => {
    expect(foreignProtocol(name, port)).toBe(want)
  })
})

describe('TLS', () => {
  it.each([
    { name: 'https', port: 9200, want: true },
    { name: 'https-webhook', port: 9443, want: true },
    { name: 'web-https', port: 1234, want: true },
    { name: 'webhook-server', port: 9443, want: true },
    { name: undefined, port: 443, want: true },
    { name: undefined, port: 10_250, want: true },
    { name: 'http-webhook', port: 9443, want: false },
    { name: 'http', port: 8443, want: false },
    { name: 'http', port: 8080, want: false },
    { name: undefined, port: 8080, want: false },
  ])('$name:$port: $want', ({ name, port, want }) => {
    expect(looksLikeTls(name, port)).toBe(want)
  })
})
