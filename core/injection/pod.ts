import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { firstFault } from '../error/schema-fault.ts'
import { SignetError } from '../error/signet-error.ts'

const Port = Type.Integer({ minimum: 1, maximum: 65_535 })
const PortOrName = Type.Union([Type.Integer(), Type.String()])
const Strings = Type.Record(Type.String(), Type.String())

const HttpGet = Type.Object({
  port: PortOrName,
  path: Type.Optional(Type.String()),
  scheme: Type.Optional(Type.String()),
  host: Type.Optional(Type.String()),
  httpHeaders: Type.Optional(Type.Array(Type.Object({ name: Type.String(), value: Type.String() }))),
})

/** A probe or a lifecycle handler. `exec` and `sleep` are no business of ours. */
const Handler = Type.Object({
  httpGet: Type.Optional(HttpGet),
  tcpSocket: Type.Optional(Type.Object({ port: PortOrName, host: Type.Optional(Type.String()) })),
  grpc: Type.Optional(Type.Object({ port: Type.Integer(), service: Type.Optional(Type.String()) })),
  timeoutSeconds: Type.Optional(Type.Integer()),
})
export type Handler = Type.Static<typeof Handler>

const ContainerPort = Type.Object({
  name: Type.Optional(Type.String()),
  containerPort: Port,
  protocol: Type.Optional(Type.String()),
  hostPort: Type.Optional(Type.Integer()),
})

const Container = Type.Object({
  name: Type.String({ minLength: 1 }),
  image: Type.Optional(Type.String()),
  restartPolicy: Type.Optional(Type.String()),
  ports: Type.Optional(Type.Array(ContainerPort)),
  env: Type.Optional(
    Type.Array(
      Type.Object({
        name: Type.String(),
        value: Type.Optional(Type.String()),
        valueFrom: Type.Optional(Type.Object({})),
      }),
    ),
  ),
  volumeMounts: Type.Optional(
    Type.Array(Type.Object({ name: Type.String(), mountPath: Type.String(), readOnly: Type.Optional(Type.Boolean()) })),
  ),
  livenessProbe: Type.Optional(Handler),
  readinessProbe: Type.Optional(Handler),
  startupProbe: Type.Optional(Handler),
  securityContext: Type.Optional(
    Type.Object({
      capabilities: Type.Optional(
        Type.Object({ add: Type.Optional(Type.Array(Type.String())), drop: Type.Optional(Type.Array(Type.String())) }),
      ),
    }),
  ),
  lifecycle: Type.Optional(Type.Object({ postStart: Type.Optional(Handler), preStop: Type.Optional(Handler) })),
})
export type Container = Type.Static<typeof Container>

const PodSpec = Type.Object({
  containers: Type.Array(Container, { minItems: 1 }),
  initContainers: Type.Optional(Type.Array(Container)),
  volumes: Type.Optional(Type.Array(Type.Object({ name: Type.String() }))),
  serviceAccountName: Type.Optional(Type.String()),
  /** Its deprecated name, which charts still write; the API server fills both in. */
  serviceAccount: Type.Optional(Type.String()),
  hostNetwork: Type.Optional(Type.Boolean()),
  hostPID: Type.Optional(Type.Boolean()),
  shareProcessNamespace: Type.Optional(Type.Boolean()),
  terminationGracePeriodSeconds: Type.Optional(Type.Integer({ minimum: 0 })),
  os: Type.Optional(Type.Object({ name: Type.String() })),
})
export type PodSpec = Type.Static<typeof PodSpec>

const PodObject = Type.Object({
  metadata: Type.Optional(
    Type.Object({
      name: Type.Optional(Type.String()),
      namespace: Type.Optional(Type.String()),
      labels: Type.Optional(Strings),
      annotations: Type.Optional(Strings),
    }),
  ),
  spec: PodSpec,
})
/** The parts of a Kubernetes pod, or of a pod template, that injection reads. Everything else passes through as it is. */
export type PodObject = Type.Static<typeof PodObject>

export const PROBES = ['startupProbe', 'livenessProbe', 'readinessProbe'] as const
export const HOOKS = ['postStart', 'preStop'] as const
export type HandlerKind = (typeof PROBES)[number] | (typeof HOOKS)[number]

const validator = Compile(PodObject)

/** Takes what should be a pod. @throws SignetError POD_INVALID naming the place and what is allowed there */
export function readPod(value: unknown): PodObject {
  const pod = withoutNulls(value)
  if (validator.Check(pod)) return pod
  const { path, allowed } = firstFault(validator.Errors(pod))
  throw new SignetError('POD_INVALID', `not a pod: ${path} ${allowed}`)
}

/** Go writes what is not set as null here and there (`metadata.creationTimestamp`), and so do people's templates. Bounded by the depth of a parsed document. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => withoutNulls(item))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, member]) => member !== null)
      .map(([name, member]) => [name, withoutNulls(member)]),
  )
}
