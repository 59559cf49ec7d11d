import Type from 'typebox'
import { readConfig } from '#runtime/config.ts'

const PORT = '([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])'
const Port = (description: string) => Type.Integer({ minimum: 1, maximum: 65_535, description })

/** The environment of `signet-redirect`, which injection writes. */
export const RedirectEnvironment = Type.Object({
  SIGNET_REDIRECT_PORT: Type.Optional(Port('Port of the application whose requests go to the proxy; none where unset')),
  SIGNET_REDIRECT_TO: Port('Port that the proxy listens on'),
  SIGNET_REDIRECT_ADMIN: Port('Port of the proxy’s admin listener, open to the kubelet and to scrapers'),
  SIGNET_REDIRECT_PASSTHROUGH: Type.Optional(
    Type.String({
      pattern: `^${PORT}(,${PORT}){0,63}$`,
      allowed: 'port numbers with commas between, 64 at most',
      description: 'Ports that the platform lets in around the proxy',
    }),
  ),
  SIGNET_REDIRECT_LISTEN: Type.Optional(
    Type.Enum(['0.0.0.0', '[::]'], {
      description: 'Address that the proxy listens on; with 0.0.0.0, the default, its ports are closed to IPv6',
    }),
  ),
  SIGNET_REDIRECT_MESH: Type.Optional(
    Type.Enum(['istio', 'linkerd'], { description: 'Service mesh whose proxy is in the pod' }),
  ),
})

export type RedirectConfig = {
  readonly port: number | null
  readonly proxyPort: number
  readonly adminPort: number
  readonly passthroughPorts: readonly number[]
  readonly mesh: 'istio' | 'linkerd' | null
  readonly ipv6: boolean
}

/** @throws SignetError CONFIG_INVALID with a line for each bad variable */
export function readRedirectConfig(env: Readonly<Record<string, string | undefined>>): RedirectConfig {
  const values = readConfig(RedirectEnvironment, env)
  return {
    port: values.SIGNET_REDIRECT_PORT ?? null,
    proxyPort: values.SIGNET_REDIRECT_TO,
    adminPort: values.SIGNET_REDIRECT_ADMIN,
    passthroughPorts: (values.SIGNET_REDIRECT_PASSTHROUGH ?? '')
      .split(',')
      .filter((port) => port !== '')
      .map(Number),
    mesh: values.SIGNET_REDIRECT_MESH ?? null,
    ipv6: values.SIGNET_REDIRECT_LISTEN === '[::]',
  }
}
