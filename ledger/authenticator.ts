import { followNamespaceMap, followPolicyFile, followServiceAccounts } from '#runtime/identity/policy-file.ts'
import { createServiceAccountAuthenticator } from '#runtime/identity/service-account.ts'
import { createTokenAuthenticator, parseTokenFile, type Authenticator } from '#runtime/identity/token.ts'
import { createWorkloadAuthenticator, firstThatKnows } from '#runtime/identity/workload.ts'
import { createKubernetesApi, type KubernetesApi } from '#runtime/kubernetes/api.ts'
import { kubernetesApiOptions } from '#runtime/kubernetes/variables.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import { readConfigFile } from './config-file.ts'
import type { LedgerConfig } from './config.ts'
import { checkDeniedFile, createDenyList, NOBODY_DENIED, type DenyList } from './identity/denied.ts'

/**
 * Who may call, by configuration: tokens of the token file, service accounts, or both. `kubernetes` is null where no API is asked.
 * @throws SignetError CONFIG_INVALID
 */
export async function buildAuthenticator(
  config: LedgerConfig,
  { log, signal }: { readonly log: Logger; readonly signal: AbortSignal },
): Promise<{ authenticator: Authenticator; denyList: DenyList; kubernetes: KubernetesApi | null }> {
  const following = (
    variable: 'SIGNET_NAMESPACE_MAP' | 'SIGNET_LEDGER_SERVICE_ACCOUNTS' | 'SIGNET_LEDGER_DENIED_PRODUCERS',
  ) => ({
    variable,
    path: config[variable],
    signal,
    onChange: () => log.info({ variable }, 'the file was re-read'),
    onError: (error: unknown) => log.error({ error, variable }, 'the file cannot be used; what it said before holds'),
  })
  const denied = await followPolicyFile(following('SIGNET_LEDGER_DENIED_PRODUCERS'), checkDeniedFile, NOBODY_DENIED)
  const denyList = createDenyList(denied, () => new Date())
  const authenticators: Authenticator[] = []
  let kubernetes: KubernetesApi | null = null
  if (config.SIGNET_LEDGER_TOKENS !== undefined) {
    const text = await readConfigFile('SIGNET_LEDGER_TOKENS', config.SIGNET_LEDGER_TOKENS)
    authenticators.push(createTokenAuthenticator(parseTokenFile(text, config.SIGNET_LEDGER_TOKENS)))
  }
  if (config.SIGNET_LEDGER_AUDIENCE !== undefined) {
    const api = createKubernetesApi(kubernetesApiOptions(config))
    kubernetes = api
    authenticators.push(
      createWorkloadAuthenticator({
        accounts: createServiceAccountAuthenticator({
          review: (token, audience) => api.reviewToken(token, audience),
          audience: config.SIGNET_LEDGER_AUDIENCE,
          cacheMs: config.SIGNET_LEDGER_TOKEN_CACHE_MS,
          now: Date.now,
        }),
        namespaceMap: await followNamespaceMap(following('SIGNET_NAMESPACE_MAP')),
        serviceAccounts: await followServiceAccounts(following('SIGNET_LEDGER_SERVICE_ACCOUNTS')),
      }),
    )
  }
  return { authenticator: denyList.guard(firstThatKnows(authenticators)), denyList, kubernetes }
}
