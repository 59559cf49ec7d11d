import { isMeshContainer } from './mesh.ts'
import { PROXY_PORT, PROXY_PORT_NAME, SIDECAR, type Capture } from './names.ts'
import type { Container, PodSpec } from './pod.ts'
import { foreignProtocol, looksLikeTls } from './protocol.ts'

/** Where the proxy sends requests to, and the name that leads to the proxy instead. */
export type CapturePlan = {
  /** The application's port; null where the pod serves nothing. */
  readonly port: number | null
  /** The port's name that the sidecar takes over (named-port), null where there is none to take. */
  readonly takenName: string | null
  readonly warnings: readonly string[]
}

type Candidate = { readonly container: string; readonly name: string | undefined; readonly port: number }

/** Names that say HTTP, in the order in which they are taken where a pod has several ports and says nothing. */
const HTTP_NAMES = ['http', 'web', 'http-web', 'http-api', 'api', 'http1', 'app-http', 'main']

/** Names of ports that the platform asks, not clients. */
const ASIDE = /metric|prom|health|live|ready|probe|admin|debug|profil|pprof/

/**
 * Chooses the one port that is captured: the one that `signet.dev/port` names, the only one, or the one whose name says HTTP. A port that
 * says that it is not HTTP is left alone under named-port, unless it is asked for: a database behind an HTTP proxy is a broken database.
 * Under redirect it would be closed all the same.
 */
export function planCapture(
  spec: PodSpec,
  { capture, asked, passthroughPorts }: { capture: Capture; asked: string | null; passthroughPorts: readonly number[] },
): CapturePlan {
  const candidates = candidatesOf(spec).filter(({ port, name }) => name === asked || !passthroughPorts.includes(port))
  const warnings: string[] = []
  const chosen = choose(candidates, asked, warnings)
  if (chosen === null) return { port: null, takenName: null, warnings }
  const all = candidates.filter(({ port }) => port === chosen.port)
  const takenName = all.find(({ name }) => name !== undefined)?.name ?? null
  const protocol = foreignProtocol(takenName ?? undefined, chosen.port)
  if (protocol !== null) {
    const isLeft = asked === null && capture === 'named-port'
    const why = `port ${takenName ?? chosen.port} looks like ${protocol}, and the proxy speaks HTTP/1.1`
    if (isLeft)
      return {
        port: null,
        takenName: null,
        warnings: [`${why}: nothing is captured; name the port with signet.dev/port if it is HTTP`],
      }
    warnings.push(`${why}: its clients will get no answer; name another port with signet.dev/port if there is one`)
  }
  if (capture === 'named-port') {
    if (takenName === null)
      warnings.push(
        `port ${chosen.port} has no name, so Services lead to it by number, around the proxy: name the port and let targetPort be the name, or let targetPort be ${PROXY_PORT_NAME}`,
      )
    if (hasHostPort(spec, chosen.port))
      warnings.push(
        `port ${chosen.port} has a hostPort, which leads to the application around the proxy; use capture redirect`,
      )
  }
  if (looksLikeTls(takenName ?? undefined, chosen.port))
    warnings.push(
      `port ${takenName ?? chosen.port} looks like TLS; the proxy speaks HTTP on both sides, so end TLS in front of the pod, or name another port with signet.dev/port`,
    )
  return { port: chosen.port, takenName, warnings }
}

function candidatesOf(spec: PodSpec): Candidate[] {
  return spec.containers.flatMap((container) =>
    (container.ports ?? [])
      .filter(({ protocol }) => protocol === undefined || protocol === 'TCP')
      .map((port) => ({ container: container.name, name: port.name, port: port.containerPort }))
      .filter(() => !isMeshContainer(container) && container.name !== SIDECAR),
  )
}

function choose(candidates: readonly Candidate[], asked: string | null, warnings: string[]): Candidate | null {
  if (asked !== null) {
    const number = /^[1-9]\d{0,4}$/.test(asked) ? Number(asked) : null
    const found = candidates.find(({ name, port }) => name === asked || port === number)
    if (found !== undefined) return found
    if (number !== null && number <= 65_535) return { container: '', name: undefined, port: number }
    warnings.push(
      `annotation signet.dev/port is ${JSON.stringify(asked.slice(0, 100))}, and no container has such a port: nothing is captured`,
    )
    return null
  }
  const ports = [...new Set(candidates.map(({ port }) => port))]
  if (ports.length === 0) {
    warnings.push(
      'no container declares a TCP port: nothing is captured; name the port with signet.dev/port if there is one',
    )
    return null
  }
  if (ports.length === 1) return candidates[0] ?? null
  const http = candidates.filter(({ name, port }) => foreignProtocol(name, port) === null)
  const serving = http.filter(({ name }) => name === undefined || !ASIDE.test(name))
  const named =
    HTTP_NAMES.map((wanted) => http.find(({ name }) => name === wanted)).find((found) => found !== undefined) ??
    serving.find(({ name }) => name !== undefined && /(^|-)http(-|$)/.test(name)) ??
    serving[0] ??
    http[0] ??
    candidates[0] ??
    null
  if (named !== null)
    warnings.push(
      `the pod has ports ${ports.join(', ')}; ${named.name ?? named.port} is captured. Say which with signet.dev/port`,
    )
  return named
}

function hasHostPort(spec: PodSpec, port: number): boolean {
  return spec.containers.some(({ ports }) =>
    (ports ?? []).some(({ containerPort, hostPort }) => containerPort === port && (hostPort ?? 0) > 0),
  )
}

/** The pod with the port's name taken from the containers that had it, and what was taken, by `container/containerPort`. */
export function takeName(
  containers: readonly Container[],
  takenName: string | null,
): { containers: Container[]; taken: Record<string, string> } {
  const taken: Record<string, string> = {}
  if (takenName === null) return { containers: [...containers], taken }
  return {
    containers: containers.map((container) => {
      if (!(container.ports ?? []).some((port) => port.name === takenName && isTcp(port.protocol))) return container
      return {
        ...container,
        ports: (container.ports ?? []).map((port) => {
          if (port.name !== takenName || !isTcp(port.protocol)) return port
          taken[`${container.name}/${port.containerPort}`] = takenName
          const { name: _, ...unnamed } = port
          return unnamed
        }),
      }
    }),
    taken,
  }
}

function isTcp(protocol: string | undefined): boolean {
  return protocol === undefined || protocol === 'TCP'
}

/** The sidecar's first port: the name that Services lead to. */
export function capturedPort(name: string | null): { name: string; containerPort: number; protocol: 'TCP' } {
  return { name: name ?? PROXY_PORT_NAME, containerPort: PROXY_PORT, protocol: 'TCP' }
}
