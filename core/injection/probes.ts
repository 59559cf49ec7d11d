import { ADMIN_PORT, SIDECAR, type Capture } from './names.ts'
import type { AppProbe } from './app-probe.ts'
import type { Mesh } from './mesh.ts'
import { appProbePath, handlerKey, isRewritten, targetOf, withoutTarget, type Original } from './original.ts'
import { HOOKS, PROBES, type Container, type Handler, type HandlerKind } from './pod.ts'

export type RewrittenHandlers = {
  readonly containers: readonly Container[]
  /** What the proxy has to run, for `SIGNET_PROBES`. */
  readonly probes: Readonly<Record<string, AppProbe>>
  /** What the handlers were where they were rewritten. */
  readonly originals: Readonly<Record<string, Handler>>
  readonly warnings: readonly string[]
}

export type RewriteContext = {
  readonly capture: Capture
  readonly takenName: string | null
  readonly mesh: Mesh | null
  readonly gracePeriodSeconds: number
  /** What an earlier injection noted: a mesh may have rewritten since what we had rewritten. */
  readonly earlier: Original | null
}

/** Seconds that a postStart hook may take: the kubelet has no limit of its own, and a container waits for it. */
const POST_START_SECONDS = 3_600

/**
 * Rewrites probes and httpGet hooks so that they ask the application what they always asked. named-port: a port given by the name
 * that was taken becomes its number. redirect: nobody from outside reaches the application, so the kubelet asks the proxy's admin
 * listener, which asks the application over loopback. exec stays, and so does a handler that names a host: that is not this pod.
 */
export function rewriteHandlers(containers: readonly Container[], context: RewriteContext): RewrittenHandlers {
  const probes: Record<string, AppProbe> = {}
  const originals: Record<string, Handler> = {}
  const warnings: string[] = []
  const rewrite = (container: Container, kind: HandlerKind, handler: Handler | undefined): Handler | undefined => {
    if (handler === undefined) return undefined
    const key = handlerKey(container.name, kind)
    const change = rewriteHandler(container, kind, handler, context, warnings)
    if (change === null) return handler
    if (change.probe !== null) probes[key] = change.probe
    originals[key] = change.original
    return change.handler
  }
  const rewritten = containers.map((container) => {
    if (container.name === SIDECAR) return container
    const result = { ...container }
    for (const kind of PROBES) {
      const handler = rewrite(container, kind, container[kind])
      if (handler !== undefined) result[kind] = handler
    }
    for (const kind of HOOKS) {
      const handler = rewrite(container, kind, container.lifecycle?.[kind])
      if (handler !== undefined) result.lifecycle = { ...result.lifecycle, [kind]: handler }
    }
    return result
  })
  return { containers: rewritten, probes, originals, warnings }
}

type Change = { readonly handler: Handler; readonly original: Handler; readonly probe: AppProbe | null }

function rewriteHandler(
  container: Container,
  kind: HandlerKind,
  handler: Handler,
  context: RewriteContext,
  warnings: string[],
): Change | null {
  const key = handlerKey(container.name, kind)
  const target = handler.httpGet ?? handler.tcpSocket ?? handler.grpc
  if (target === undefined) return null
  // Kubernetes keeps tcpSocket hooks in its schema only; they fail when they run.
  if (handler.tcpSocket !== undefined && isHook(kind)) return null
  if ('host' in target && target.host !== undefined && target.host !== '') {
    if (context.capture === 'redirect' && !isLoopback(target.host))
      warnings.push(
        `${key} names the host ${target.host.slice(0, 253)}; it is left as it is, and if it leads to this pod it goes through the proxy`,
      )
    return null
  }
  const port = portNumber(container, target.port)
  if (port === null) {
    warnings.push(
      `${key} names port ${JSON.stringify(String(target.port).slice(0, 63))}, which the container does not have; it is left as it is`,
    )
    return null
  }
  if (context.capture === 'named-port') {
    if (target.port !== context.takenName) return null
    return { handler: withPort(handler, port), original: namedPort(handler), probe: null }
  }
  const before = context.earlier?.handlers[key]
  if (context.mesh?.ports.includes(port) === true && before !== undefined) {
    // The mesh has taken our rewritten handler over; it asks us, and we have to know what for.
    const probe = probeOf(container, before, timeoutOf(kind, handler, context.gracePeriodSeconds))
    return { handler, original: before, probe }
  }
  if (context.mesh?.ports.includes(port) === true) return null
  if (isRewritten(handler, container.name, kind)) return null
  return {
    handler: {
      ...withoutTarget(handler),
      httpGet: { path: appProbePath(container.name, kind), port: ADMIN_PORT, scheme: 'HTTP' },
    },
    original: targetOf(handler),
    probe: probeOf(container, handler, timeoutOf(kind, handler, context.gracePeriodSeconds)),
  }
}

function isHook(kind: HandlerKind): boolean {
  return (HOOKS as readonly string[]).includes(kind)
}

function timeoutOf(kind: HandlerKind, handler: Handler, gracePeriodSeconds: number): number {
  if (kind === 'postStart') return POST_START_SECONDS
  if (kind === 'preStop') return Math.max(1, Math.min(86_400, gracePeriodSeconds))
  return Math.max(1, Math.min(86_400, handler.timeoutSeconds ?? 1))
}

function probeOf(container: Container, handler: Handler, timeoutSeconds: number): AppProbe | null {
  const { httpGet, tcpSocket, grpc } = handler
  if (httpGet !== undefined) {
    const port = portNumber(container, httpGet.port)
    return port === null
      ? null
      : {
          httpGet: {
            port,
            path: httpGet.path === undefined || httpGet.path === '' ? '/' : httpGet.path,
            scheme: httpGet.scheme?.toUpperCase() === 'HTTPS' ? 'HTTPS' : 'HTTP',
            httpHeaders: (httpGet.httpHeaders ?? []).map(({ name, value }) => ({ name, value })),
          },
          timeoutSeconds,
        }
  }
  if (tcpSocket !== undefined) {
    const port = portNumber(container, tcpSocket.port)
    return port === null ? null : { tcpSocket: { port }, timeoutSeconds }
  }
  return grpc === undefined ? null : { grpc: { port: grpc.port, service: grpc.service ?? '' }, timeoutSeconds }
}

/** The kubelet looks a name up in the container's own ports. */
function portNumber(container: Container, port: number | string): number | null {
  const number = typeof port === 'number' ? port : /^\d{1,5}$/.test(port) ? Number(port) : null
  if (number !== null) return number >= 1 && number <= 65_535 ? number : null
  return container.ports?.find(({ name }) => name === port)?.containerPort ?? null
}

function withPort(handler: Handler, port: number): Handler {
  if (handler.httpGet !== undefined) return { ...handler, httpGet: { ...handler.httpGet, port } }
  if (handler.tcpSocket !== undefined) return { ...handler, tcpSocket: { ...handler.tcpSocket, port } }
  return handler
}

function namedPort({ httpGet, tcpSocket }: Handler): Handler {
  if (httpGet !== undefined) return { httpGet: { port: httpGet.port } }
  return tcpSocket === undefined ? {} : { tcpSocket: { port: tcpSocket.port } }
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host.startsWith('127.') || host === '::1'
}
