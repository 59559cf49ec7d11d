import { Agent, request } from 'undici'
import { SignetError } from '#core/error/signet-error.ts'

export type ClusterAccess = {
  /** Origin of the API server. */
  readonly url: string
  readonly token: string
  /** PEM of the authority that the API server's certificate comes from. */
  readonly ca: string
}

const TIMEOUT_MS = 10_000
const FIELD_MANAGER = 'signet-postgres-trial'

/**
 * Makes a Secret what it should be, by server-side apply: one call that makes or updates, and that a role may grant for this one
 * name alone (`create` and `patch`, the name is in the request).
 * @throws SignetError CONFIG_INVALID when the API server refuses, INTERNAL when it does not answer; never with a value
 */
export async function keepSecret(
  access: ClusterAccess,
  secret: { readonly namespace: string; readonly name: string; readonly values: Readonly<Record<string, string>> },
): Promise<void> {
  const { namespace, name, values } = secret
  const encoded = Object.entries(values).map(([key, value]) => [key, Buffer.from(value).toString('base64')])
  const body = {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name, namespace, labels: { 'app.kubernetes.io/part-of': 'signet' } },
    type: 'Opaque',
    data: Object.fromEntries(encoded),
  }
  const dispatcher = new Agent({ connect: { ca: access.ca } })
  try {
    const target = `/api/v1/namespaces/${namespace}/secrets/${name}?fieldManager=${FIELD_MANAGER}&force=true`
    const answer = await request(new URL(target, access.url), {
      dispatcher,
      method: 'PATCH',
      headers: {
        authorization: `Bearer ${access.token}`,
        'content-type': 'application/apply-patch+yaml',
        accept: 'application/json',
      },
      body: JSON.stringify(body),
      headersTimeout: TIMEOUT_MS,
      bodyTimeout: TIMEOUT_MS,
    })
    await answer.body.dump()
    if (answer.statusCode === 200 || answer.statusCode === 201) return
    throw new SignetError(
      'CONFIG_INVALID',
      `the API server refused to keep Secret ${namespace}/${name} (${answer.statusCode}); the pod's service account needs create and patch on it`,
    )
  } catch (cause) {
    if (cause instanceof SignetError) throw cause
    const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : 'no answer'
    throw new SignetError('INTERNAL', `the API server at ${access.url} does not answer (${reason})`, { cause })
  } finally {
    await dispatcher.close()
  }
}
