import Type from 'typebox'

const Port = Type.Integer({ minimum: 1, maximum: 65_535 })
/** Seconds. A probe's is the kubelet's own limit (default 1); a hook's is the time that the pod may take to stop. */
const Timeout = Type.Integer({ minimum: 1, maximum: 86_400 })
const CLOSED = { additionalProperties: false } as const

/**
 * One probe or hook of the application, as the pod had it, that the proxy runs over loopback when the kubelet asks its admin
 * listener. Ports are numbers; `host` is not here: a handler that names a host goes where it always went.
 */
export const AppProbe = Type.Union([
  Type.Object(
    {
      httpGet: Type.Object(
        {
          port: Port,
          path: Type.String({ maxLength: 8_192 }),
          scheme: Type.Enum(['HTTP', 'HTTPS']),
          httpHeaders: Type.Array(
            Type.Object({ name: Type.String({ maxLength: 256 }), value: Type.String({ maxLength: 8_192 }) }, CLOSED),
            { maxItems: 64 },
          ),
        },
        CLOSED,
      ),
      timeoutSeconds: Timeout,
    },
    CLOSED,
  ),
  Type.Object({ tcpSocket: Type.Object({ port: Port }, CLOSED), timeoutSeconds: Timeout }, CLOSED),
  Type.Object(
    { grpc: Type.Object({ port: Port, service: Type.String({ maxLength: 1_024 }) }, CLOSED), timeoutSeconds: Timeout },
    CLOSED,
  ),
])
export type AppProbe = Type.Static<typeof AppProbe>

/** The value of `SIGNET_PROBES`, as JSON: `{container}/{livenessProbe | readinessProbe | startupProbe | postStart | preStop}` to the probe. */
export const AppProbes = Type.Record(
  Type.String({
    pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/(startupProbe|livenessProbe|readinessProbe|postStart|preStop)$',
  }),
  AppProbe,
  { additionalProperties: false },
)
export type AppProbes = Readonly<Record<string, AppProbe>>

/** Where the admin listener answers for a probe. */
export const APP_PROBES_PATH = '/app-probes/'
