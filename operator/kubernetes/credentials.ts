import { existsSync, readFileSync } from 'node:fs'
import { isIPv6 } from 'node:net'
import { dirname, isAbsolute, join } from 'node:path'
import { parse } from 'yaml'
import { SignetError } from '#core/error/signet-error.ts'

/** How to reach the API server and who we are there. */
export type ApiCredentials = {
  /** Origin and path prefix, without a slash at the end. */
  readonly server: string
  readonly serverName?: string
  /** PEM; read anew for each new connection pool, since clusters rotate it. Undefined: the system's authorities. */
  ca(): string | undefined
  /** PEM of a client certificate, where the kubeconfig has one. */
  readonly clientPair?: { readonly cert: string; readonly key: string }
  /** The token as it is now: bound tokens are replaced while we run. Null where there is none. */
  token(): string | null
  /** The namespace we run in, where that is known. */
  readonly namespace?: string
}

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount'

/**
 * The pod's own service account, or, where `kubeconfig` is given, the current context of that file (certificates, token or token
 * file; no exec plugins).
 * @throws SignetError CONFIG_INVALID
 */
export function readCredentials(options: {
  readonly kubeconfig?: string | undefined
  readonly serviceHost?: string | undefined
  readonly servicePort?: string | undefined
  readonly serviceAccountDir?: string
}): ApiCredentials {
  if (options.kubeconfig !== undefined) return fromKubeconfig(options.kubeconfig)
  const { serviceHost, servicePort, serviceAccountDir: dir = SERVICE_ACCOUNT } = options
  if (serviceHost === undefined || servicePort === undefined || !existsSync(join(dir, 'token'))) {
    throw invalid('not in a pod with a service account, and KUBECONFIG is not set')
  }
  const namespaceFile = join(dir, 'namespace')
  return {
    server: `https://${isIPv6(serviceHost) ? `[${serviceHost}]` : serviceHost}:${servicePort}`,
    ca: () => readText(join(dir, 'ca.crt')),
    token: () => readText(join(dir, 'token')).trim(),
    ...(existsSync(namespaceFile) ? { namespace: readText(namespaceFile).trim() } : {}),
  }
}

type Named<K extends string, T> = { name?: string } & { [P in K]?: T }
type Kubeconfig = {
  'current-context'?: string
  contexts?: Named<'context', { cluster?: string; user?: string; namespace?: string }>[]
  clusters?: Named<'cluster', ClusterEntry>[]
  users?: Named<'user', UserEntry>[]
}
type ClusterEntry = {
  server?: string
  'tls-server-name'?: string
  'certificate-authority'?: string
  'certificate-authority-data'?: string
}
type UserEntry = {
  token?: string
  tokenFile?: string
  exec?: unknown
  'client-certificate'?: string
  'client-certificate-data'?: string
  'client-key'?: string
  'client-key-data'?: string
}

function fromKubeconfig(file: string): ApiCredentials {
  let config: Kubeconfig
  try {
    config = (parse(readText(file)) ?? {}) as Kubeconfig
  } catch (cause) {
    if (cause instanceof SignetError) throw cause
    throw invalid(`KUBECONFIG ${file} is not YAML`, cause)
  }
  const context = config.contexts?.find((entry) => entry.name === config['current-context'])?.context
  const cluster = config.clusters?.find((entry) => entry.name === context?.cluster)?.cluster
  const user = config.users?.find((entry) => entry.name === context?.user)?.user ?? {}
  if (context === undefined || cluster?.server === undefined) {
    throw invalid(`KUBECONFIG ${file} has no current context with a cluster and its server`)
  }
  if (user.exec !== undefined) throw invalid(`KUBECONFIG ${file}: exec plugins are not supported; use a token`)
  const text = (path: string | undefined, data: string | undefined): string | undefined => {
    if (data !== undefined) return Buffer.from(data, 'base64').toString('utf8')
    if (path === undefined) return undefined
    return readText(isAbsolute(path) ? path : join(dirname(file), path))
  }
  const cert = text(user['client-certificate'], user['client-certificate-data'])
  const key = text(user['client-key'], user['client-key-data'])
  return {
    server: cluster.server.replace(/\/+$/, ''),
    ca: () => text(cluster['certificate-authority'], cluster['certificate-authority-data']),
    token: () => user.token ?? text(user.tokenFile, undefined)?.trim() ?? null,
    ...(cluster['tls-server-name'] === undefined ? {} : { serverName: cluster['tls-server-name'] }),
    ...(cert === undefined || key === undefined ? {} : { clientPair: { cert, key } }),
    ...(context.namespace === undefined ? {} : { namespace: context.namespace }),
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw invalid(`${path} cannot be read: ${(cause as Error).message}`, cause)
  }
}

function invalid(message: string, cause?: unknown): SignetError {
  return new SignetError('CONFIG_INVALID', `Kubernetes credentials: ${message}`, { cause })
}
