import { describe, expect, it } from 'vitest'
import { applyRuleset } from './apply.ts'
import { readRedirectConfig } from './config.ts'
import { renderRuleset } from './ruleset.ts'

const env = (change: Record<string, string> = {}): Record<string, string> => ({
  SIGNET_REDIRECT_TO: '15080',
  SIGNET_REDIRECT_ADMIN: '15094',
  ...change,
})
const render = (change: Record<string, string> = {}): string => renderRuleset(readRedirectConfig(env(change)))

describe('renderRuleset', () => {
  it('captures one port, opens what it is told, closes the rest', () => {
    expect(render({ SIGNET_REDIRECT_PORT: '8080', SIGNET_REDIRECT_PASSTHROUGH: '9090,8080,9090' }))
      .toMatchInlineSnapshot(`
        "table inet signet {}
        delete table inet signet
        table inet signet {
          chain prerouting {
            type nat hook prerouting priority dstnat - 10; policy accept;
            iifname "lo" accept
            tcp dport 8080 redirect to :15080
          }
          chain input {
            type filter hook input priority filter; policy drop;
            iifname "lo" accept
            ct state established accept
            ct state related meta l4proto { 1, 58 } accept
            meta l4proto { 1, 58 } accept
            meta nfproto ipv6 tcp dport { 15080, 15094 } reject with tcp reset
            tcp dport { 9090, 15080, 15094 } accept
            udp dport { 9090 } accept
            meta l4proto tcp reject with tcp reset
            reject
          }
          chain output {
            type filter hook output priority filter; policy accept;
            oifname != "lo" tcp sport { 15080, 15094 } meta skuid != 15065 drop
          }
        }
        "
      `)
  })

  it('beside a mesh takes over what the mesh passes on', () => {
    expect(render({ SIGNET_REDIRECT_PORT: '8080', SIGNET_REDIRECT_MESH: 'linkerd' })).toMatchInlineSnapshot(`
      "table inet signet {}
      delete table inet signet
      table inet signet {
        chain prerouting {
          type nat hook prerouting priority dstnat - 10; policy accept;
          iifname "lo" accept
          tcp dport 15094 redirect to :15094
        }
        chain output_nat {
          type nat hook output priority -110; policy accept;
          oifname "lo" meta skuid 2102 tcp dport 8080 redirect to :15080
        }
        chain input {
          type filter hook input priority filter; policy drop;
          iifname "lo" accept
          ct state established accept
          ct state related meta l4proto { 1, 58 } accept
          meta l4proto { 1, 58 } accept
          meta nfproto ipv6 tcp dport { 15080, 15094 } reject with tcp reset
          tcp dport { 4143, 4190, 4191, 15080, 15094 } accept
          meta l4proto tcp reject with tcp reset
          reject
        }
        chain output {
          type filter hook output priority filter; policy accept;
          oifname != "lo" tcp sport { 15080, 15094 } meta skuid != 15065 drop
          oifname "lo" meta skuid 2102 ct state new tcp dport != { 4140, 4143, 4190, 4191, 15080, 15094 } reject with tcp reset
        }
      }
      "
    `)
  })

  it('captures nothing where there is nothing', () => {
    expect(render()).not.toContain('redirect')
  })
})

describe('readRedirectConfig', () => {
  it.each([
    { change: { SIGNET_REDIRECT_PORT: '0' } },
    { change: { SIGNET_REDIRECT_PORT: '8080; flush ruleset' } },
    { change: { SIGNET_REDIRECT_PASSTHROUGH: '1,' } },
    { change: { SIGNET_REDIRECT_PASSTHROUGH: '65536' } },
    { change: { SIGNET_REDIRECT_PASSTHROUGH: Array.from({ length: 65 }, (_, n) => String(n + 1)).join(',') } },
    { change: { SIGNET_REDIRECT_MESH: 'consul' } },
    { change: { SIGNET_REDIRECT_ADMIN: '' } },
  ])('refuses $change', ({ change }) => expect(() => readRedirectConfig(env(change))).toThrow('SIGNET_REDIRECT_'))
  it('takes as many passthrough ports as the namespace map has', () => {
    const ports = Array.from({ length: 64 }, (_, n) => n + 60_000)
    expect(readRedirectConfig(env({ SIGNET_REDIRECT_PASSTHROUGH: ports.join(',') })).passthroughPorts).toEqual(ports)
  })
})

it('does not take nft at its word', async () => {
  await expect(applyRuleset('x', async () => '')).rejects.toThrow('not in force')
  const calls: string[][] = []
  const nft = async (args: readonly string[], input: string | null): Promise<string> => {
    calls.push([...args, String(input)])
    return args[0] === 'list' ? 'chain input { policy drop; }' : ''
  }
  await applyRuleset('rules', nft)
  expect(calls).toEqual([
    ['-f', '-', 'rules'],
    ['list', 'table', 'inet', 'signet', 'null'],
  ])
})
