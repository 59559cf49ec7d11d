import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { ADMIN_PORT, ANNOTATIONS, REDIRECT, SIDECAR } from './names.ts'
import { APP_PROBES_PATH } from './app-probe.ts'
import { ADDITIONS, restoreRawSockets } from './raw-sockets.ts'
import { HOOKS, PROBES, type Container, type Handler, type HandlerKind, type PodObject, type PodSpec } from './pod.ts'

/** What a pod had where injection changed it, kept in `signet.dev/original` so that it can be injected again from the beginning. */
const Original = Type.Object({
  version: Type.Literal(1),
  gracePeriodSeconds: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()]),
  /** Name of the port taken over, by `container/containerPort`. */
  portNames: Type.Record(Type.String(), Type.String()),
  /** What was replaced of handlers, by `container/kind`: httpGet, tcpSocket or grpc, or of them the port alone. Never their timing. */
  handlers: Type.Record(Type.String(), Type.Object({})),
  /** What was added to drop NET_RAW, by container; absent where nothing was. */
  rawSockets: Type.Optional(Type.Record(Type.String(), Type.Enum(ADDITIONS))),
})
export type Original = Omit<Type.Static<typeof Original>, 'handlers'> & {
  readonly handlers: Readonly<Record<string, Handler>>
}

const validator = Compile(Original)

export function readOriginal(pod: PodObject): Original | null {
  const text = pod.metadata?.annotations?.[ANNOTATIONS.original]
  if (text === undefined) return null
  try {
    const value: unknown = JSON.parse(text)
    return validator.Check(value) ? value : null
  } catch {
    return null
  }
}

/** The pod before it was injected: our containers, volumes and annotations taken out, and put back what they had replaced. */
export function withoutInjection(pod: PodObject): PodObject {
  const { [ANNOTATIONS.original]: _, [ANNOTATIONS.injected]: __, ...annotations } = pod.metadata?.annotations ?? {}
  const original = readOriginal(pod)
  const ours = new Set<string>([SIDECAR, REDIRECT])
  const restore = (container: Container): Container => restoreContainer(container, original)
  const spec: PodSpec = {
    ...pod.spec,
    containers: pod.spec.containers.map(restore),
    ...(pod.spec.initContainers === undefined
      ? {}
      : { initContainers: pod.spec.initContainers.filter(({ name }) => !ours.has(name)).map(restore) }),
  }
  if (original !== null && wasInjected(pod)) {
    if (original.gracePeriodSeconds === null) delete spec.terminationGracePeriodSeconds
    else spec.terminationGracePeriodSeconds = original.gracePeriodSeconds
  }
  return { ...pod, metadata: { ...pod.metadata, annotations }, spec }
}

function wasInjected({ spec }: PodObject): boolean {
  return spec.initContainers?.some(({ name }) => name === SIDECAR) === true
}

/** Only what still is as injection left it: what someone else has changed since is theirs. */
function restoreContainer(container: Container, original: Original | null): Container {
  if (original === null) return container
  const added = Object.hasOwn(original.rawSockets ?? {}, container.name)
    ? original.rawSockets?.[container.name]
    : undefined
  const restored = added === undefined ? { ...container } : { ...restoreRawSockets(container, added) }
  if (container.ports !== undefined) {
    restored.ports = container.ports.map((port) => {
      const name = original.portNames[`${container.name}/${port.containerPort}`]
      return name !== undefined && port.name === undefined ? { ...port, name } : port
    })
  }
  for (const kind of PROBES) {
    const handler = restoreHandler(container[kind], original, container.name, kind)
    if (handler !== undefined) restored[kind] = handler
  }
  for (const kind of HOOKS) {
    const handler = restoreHandler(container.lifecycle?.[kind], original, container.name, kind)
    if (handler !== undefined) restored.lifecycle = { ...restored.lifecycle, [kind]: handler }
  }
  return restored
}

export function handlerKey(container: string, kind: HandlerKind): string {
  return `${container}/${kind}`
}

/** The path on the admin listener that stands for the handler under redirect. */
export function appProbePath(container: string, kind: HandlerKind): string {
  return `${APP_PROBES_PATH}${handlerKey(container, kind)}`
}

export function isRewritten(handler: Handler, container: string, kind: HandlerKind): boolean {
  return handler.httpGet?.port === ADMIN_PORT && handler.httpGet.path === appProbePath(container, kind)
}

function restoreHandler(
  handler: Handler | undefined,
  original: Original,
  container: string,
  kind: HandlerKind,
): Handler | undefined {
  const before = original.handlers[handlerKey(container, kind)]
  if (handler === undefined || before === undefined) return handler
  if (isRewritten(handler, container, kind)) return { ...withoutTarget(handler), ...targetOf(before) }
  // named-port put a number where the name was that it took, and nothing else.
  const isTaken = (now: number | string | undefined, then: number | string | undefined): boolean =>
    typeof now === 'number' && typeof then === 'string' && original.portNames[`${container}/${now}`] === then
  if (
    handler.httpGet !== undefined &&
    before.httpGet !== undefined &&
    isTaken(handler.httpGet.port, before.httpGet.port)
  )
    return { ...handler, httpGet: { ...handler.httpGet, port: before.httpGet.port } }
  if (
    handler.tcpSocket !== undefined &&
    before.tcpSocket !== undefined &&
    isTaken(handler.tcpSocket.port, before.tcpSocket.port)
  )
    return { ...handler, tcpSocket: { ...handler.tcpSocket, port: before.tcpSocket.port } }
  return handler
}

export function targetOf({ httpGet, tcpSocket, grpc }: Handler): Handler {
  return {
    ...(httpGet === undefined ? {} : { httpGet }),
    ...(tcpSocket === undefined ? {} : { tcpSocket }),
    ...(grpc === undefined ? {} : { grpc }),
  }
}

export function withoutTarget(handler: Handler): Handler {
  const { httpGet: _, tcpSocket: __, grpc: ___, ...timing } = handler
  return timing
}
