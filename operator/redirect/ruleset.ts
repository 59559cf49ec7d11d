import { MESHES } from '#core/injection/mesh.ts'
import { PROXY_UID } from '#core/injection/names.ts'
import type { RedirectConfig } from './config.ts'

export const TABLE = 'signet'
/** ICMP and ICMPv6. By number: nft knows the names from /etc/protocols, which a minimal image does not have. */
const ICMP = '{ 1, 58 }'

/**
 * The packet filter of a pod, for `nft -f`: one table of our own, taken away and made anew in one transaction, so that running it
 * again changes nothing and there is no moment without it. IPv4 and IPv6 (`inet`).
 *
 * From outside, the captured port leads to the proxy, the proxy's ports, the passthrough ports and ICMP (path MTU, neighbours) are
 * open, and all else is refused, whatever its protocol. Loopback is the pod's own business. Answers to what the pod itself asked come
 * in. Beside a mesh, the mesh takes inbound connections first and passes them on over loopback as its own user: there the same
 * rules are applied to what that user sends. Our chains come before the usual priority, and the first translation of a connection
 * is the one that counts.
 *
 * The proxy's ports answer for the proxy alone: while it starts again, or on an address family that it does not listen on, another
 * program of the pod could listen there and would be taken for it.
 */
export function renderRuleset(config: RedirectConfig): string {
  const mesh = MESHES.find(({ name }) => name === config.mesh) ?? null
  const own = [config.proxyPort, config.adminPort]
  const passthrough = config.passthroughPorts.filter((port) => port !== config.port)
  const meshPorts = mesh?.ports ?? []
  const chains = [
    ...(config.port === null || mesh !== null
      ? []
      : [
          chain('prerouting', 'type nat hook prerouting priority dstnat - 10; policy accept;', [
            'iifname "lo" accept',
            `tcp dport ${config.port} redirect to :${config.proxyPort}`,
          ]),
        ]),
    ...(mesh === null
      ? []
      : [
          // The kubelet asks our admin port in the clear, and a mesh may take nothing but TLS: a translation to itself is one too, and
          // the mesh's, which would come after, is not made.
          chain('prerouting', 'type nat hook prerouting priority dstnat - 10; policy accept;', [
            'iifname "lo" accept',
            `tcp dport ${config.adminPort} redirect to :${config.adminPort}`,
          ]),
        ]),
    ...(config.port === null || mesh === null
      ? []
      : [
          chain('output_nat', 'type nat hook output priority -110; policy accept;', [
            `oifname "lo" meta skuid ${mesh.uid} tcp dport ${config.port} redirect to :${config.proxyPort}`,
          ]),
        ]),
    chain('input', 'type filter hook input priority filter; policy drop;', [
      'iifname "lo" accept',
      'ct state established accept',
      `ct state related meta l4proto ${ICMP} accept`,
      `meta l4proto ${ICMP} accept`,
      ...(config.ipv6 ? [] : [`meta nfproto ipv6 tcp dport ${set(own)} reject with tcp reset`]),
      `tcp dport ${set([...own, ...meshPorts, ...passthrough])} accept`,
      ...(passthrough.length === 0 ? [] : [`udp dport ${set(passthrough)} accept`]),
      'meta l4proto tcp reject with tcp reset',
      'reject',
    ]),
    chain('output', 'type filter hook output priority filter; policy accept;', [
      // Their first packet is the answer to the client's, so that no connection comes about. Before the translation back.
      `oifname != "lo" tcp sport ${set(own)} meta skuid != ${PROXY_UID} drop`,
      // To an address of the pod itself, whichever of them: what the mesh passes on. Its own control ports it may reach.
      ...(mesh === null
        ? []
        : [
            `oifname "lo" meta skuid ${mesh.uid} ct state new tcp dport != ${set([...own, ...meshOwn(mesh.name), ...meshPorts, ...passthrough])} reject with tcp reset`,
          ]),
    ]),
  ]
  return `table inet ${TABLE} {}\ndelete table inet ${TABLE}\ntable inet ${TABLE} {\n${chains.join('\n')}\n}\n`
}

/** What the mesh's own parts say to each other over loopback. */
function meshOwn(name: 'istio' | 'linkerd'): readonly number[] {
  return name === 'istio' ? [15_000, 15_001, 15_004, 15_053] : [4_140]
}

function chain(name: string, hook: string, rules: readonly string[]): string {
  return [`  chain ${name} {`, `    ${hook}`, ...rules.map((rule) => `    ${rule}`), '  }'].join('\n')
}

function set(ports: readonly number[]): string {
  return `{ ${[...new Set(ports)].sort((a, b) => a - b).join(', ')} }`
}
