import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import type { KubernetesApiOptions } from './api.ts'

const MOUNT = '/var/run/secrets/kubernetes.io/serviceaccount'

/** Variables of every process that asks the Kubernetes API. In a pod none has to be set: the kubelet sets the last two. */
export const KUBERNETES_VARIABLES = {
  SIGNET_KUBERNETES_API: Type.Optional(
    Type.String({
      pattern: '^https://[^/?#]+/?$',
      allowed: 'an origin, https://HOST:PORT',
      description: 'The Kubernetes API; in a pod the one that the kubelet names.',
    }),
  ),
  SIGNET_KUBERNETES_CA: Type.String({
    default: `${MOUNT}/ca.crt`,
    minLength: 1,
    description: 'PEM file with the certificate authority of the Kubernetes API.',
  }),
  SIGNET_KUBERNETES_TOKEN_FILE: Type.String({
    default: `${MOUNT}/token`,
    minLength: 1,
    description: 'File with the token for the Kubernetes API; read anew for each call.',
  }),
  KUBERNETES_SERVICE_HOST: Type.Optional(Type.String({ minLength: 1, description: 'Set by the kubelet.' })),
  KUBERNETES_SERVICE_PORT: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 65_535, description: 'Set by the kubelet.' }),
  ),
}

type KubernetesVariables = Type.Static<Type.TObject<typeof KUBERNETES_VARIABLES>>

/** @throws SignetError CONFIG_INVALID outside of a pod, where no API is named */
export function kubernetesApiOptions(values: KubernetesVariables): KubernetesApiOptions {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = 443 } = values
  const inPod = host === undefined ? undefined : `https://${host.includes(':') ? `[${host}]` : host}:${port}`
  const url = values.SIGNET_KUBERNETES_API ?? inPod
  if (url === undefined) {
    throw new SignetError(
      'CONFIG_INVALID',
      'SIGNET_KUBERNETES_API is not set, and this is no pod: it must be the origin of the Kubernetes API, https://HOST:PORT',
    )
  }
  return {
    url: url.replace(/\/$/, ''),
    tokenFile: values.SIGNET_KUBERNETES_TOKEN_FILE,
    caFile: values.SIGNET_KUBERNETES_CA,
  }
}
