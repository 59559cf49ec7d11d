import { apiPath, apiStatus, type KubernetesClient } from '#operator/kubernetes/client.ts'

type WebhookConfiguration = {
  readonly webhooks?: readonly {
    readonly name: string
    readonly clientConfig: {
      readonly caBundle?: string
      readonly service?: { readonly namespace: string; readonly name: string }
    }
  }[]
}

export type WebhookConfigurations = {
  /** Sets `caBundle` (PEM) where it differs, in the webhooks that lead to our Service. What is not installed is left out. */
  setCaBundle(pem: string): Promise<void>
}

const KINDS = ['mutatingwebhookconfigurations', 'validatingwebhookconfigurations'] as const
/** The list of webhooks is merged by name then, and nothing else of a webhook is touched. */
const STRATEGIC_MERGE_PATCH = 'application/strategic-merge-patch+json'

export function createWebhookConfigurations(options: {
  readonly client: KubernetesClient
  /** `metadata.name` of both kinds. */
  readonly name: string
  /** The Service that webhooks must lead to; others in the same object are not ours. */
  readonly service: { readonly namespace: string; readonly name: string }
  readonly onChanged?: (kind: string, webhooks: number) => void
}): WebhookConfigurations {
  const { client, name, service } = options
  return {
    async setCaBundle(pem) {
      const caBundle = Buffer.from(pem).toString('base64')
      for (const kind of KINDS) {
        const path = apiPath('apis/admissionregistration.k8s.io/v1', kind, name)
        const found = await client.request<WebhookConfiguration>({ path }).catch((error: unknown) => {
          if (apiStatus(error) === 404) return null
          throw error
        })
        const stale = (found?.webhooks ?? []).filter(
          ({ clientConfig }) =>
            clientConfig.service?.name === service.name &&
            clientConfig.service.namespace === service.namespace &&
            clientConfig.caBundle !== caBundle,
        )
        if (stale.length === 0) continue
        const webhooks = stale.map((webhook) => ({ name: webhook.name, clientConfig: { caBundle } }))
        await client.request({ method: 'PATCH', path, contentType: STRATEGIC_MERGE_PATCH, body: { webhooks } })
        options.onChanged?.(kind, webhooks.length)
      }
    },
  }
}

/** For clusters where cert-manager's injector keeps `caBundle`. */
export const noWebhookConfigurations: WebhookConfigurations = { setCaBundle: async () => {} }
