/** What an injected pod calls its parts. The fence (`charts/signet/templates/fence.yaml`) and `signet doctor` look for the same names. */

export const SIDECAR = 'signet-proxy'
export const REDIRECT = 'signet-redirect'

/** The proxy's user and group in every pod. Nothing else in the pod may run as it. */
export const PROXY_UID = 15_065
/** Where captured requests arrive. */
export const PROXY_PORT = 15_080
/** The other channel's listener, on loopback: a pod has one channel, the process always has the external one. */
export const IDLE_PORT = 15_081
/** `/livez`, `/readyz`, `/metrics`, `/app-probes/…`. Not 15090: Istio's Envoy serves its own metrics there, in the same network namespace. */
export const ADMIN_PORT = 15_094
export const ADMIN_PORT_NAME = 'signet-admin'
/** The sidecar's port where the captured one has no name to take over. */
export const PROXY_PORT_NAME = 'signet-http'

export const VOLUMES = { spool: 'signet-spool', tokens: 'signet-tokens', podinfo: 'signet-podinfo' } as const
export const MOUNT_PATHS = {
  spool: '/var/lib/signet/spool',
  tokens: '/var/run/signet/tokens',
  podinfo: '/etc/podinfo',
} as const
export const AUDIENCES = { ledger: 'signet-ledger', bundles: 'signet-bundles' } as const

export const ANNOTATIONS = {
  inject: 'signet.dev/inject',
  port: 'signet.dev/port',
  capture: 'signet.dev/capture',
  mode: 'signet.dev/mode',
  tenant: 'signet.dev/tenant',
  producerId: 'signet.dev/producer-id',
  /** Written by the injection: the hash of the template and namespace facts that the pod was made with. */
  injected: 'signet.dev/injected',
  /** Written by the injection: what the pod had where it was changed, as JSON (`original.ts`). */
  original: 'signet.dev/original',
} as const

/** On namespaces. */
export const LABELS = { inject: 'signet.dev/inject', required: 'signet.dev/required' } as const

export const CAPTURES = ['named-port', 'redirect'] as const
export type Capture = (typeof CAPTURES)[number]
