import type { KeyPair } from './authority.ts'
import { createAuthority, issueServing, splitCertificates } from './authority.ts'
import { decideAuthority, servingFault, trustBundle, type AuthorityState } from './decide.ts'
import { secretText, type NamedObjects, type Secret } from '#operator/kubernetes/named-objects.ts'
import type { WebhookConfigurations } from './webhook-configurations.ts'

export const CA_SECRET = 'signet-ca'
export const OPERATOR_TLS_SECRET = 'signet-operator-tls'
export const LEDGER_TLS_SECRET = 'signet-ledger-tls'
export const GOVERNANCE_TLS_SECRET = 'signet-governance-tls'
/** `ca.crt`: PEM of all that is trusted now; `previous.crt`: the text before it last changed. */
export const TRUST_CONFIG_MAP = 'signet-trust'

export type CertificateKeeperOptions = {
  readonly objects: NamedObjects
  readonly webhooks: WebhookConfigurations
  readonly namespace: string
  readonly now: () => Date
  readonly caLifetimeMs: number
  readonly servingLifetimeMs: number
  readonly onIssued?: (what: string, reason: string) => void
}

/**
 * Brings the platform's certificates in line: authority, serving certificates, published trust, `caBundle`. One pass; the leader runs it
 * again and again. Every write is against the version that was read, so that two leaders cannot both make an authority: the
 * slower one gets 409 and reads the other's on its next pass. What is trusted is published before anything is signed with it.
 * @throws SignetError of the Kubernetes client
 */
export async function keepCertificates(options: CertificateKeeperOptions): Promise<{ trusted: string }> {
  const state = await keepAuthority(options)
  const trusted = trustBundle(state.trusted)
  await publishTrust(options, trusted)
  await options.webhooks.setCaBundle(trusted)
  for (const { secret, service } of SERVED) await keepServing(options, state, secret, service)
  return { trusted }
}

/** Publishes an authority that others keep (cert-manager), from its file. */
export async function publishTrust(
  { objects }: Pick<CertificateKeeperOptions, 'objects'>,
  trusted: string,
): Promise<void> {
  const before = await objects.readConfigMap(TRUST_CONFIG_MAP)
  const published = before?.data?.['ca.crt']
  if (published === trusted) return
  await objects.writeConfigMap(TRUST_CONFIG_MAP, before, { 'ca.crt': trusted, 'previous.crt': published ?? trusted })
}

const SERVED = [
  { secret: OPERATOR_TLS_SECRET, service: 'signet-operator' },
  { secret: LEDGER_TLS_SECRET, service: 'signet-ledger' },
  { secret: GOVERNANCE_TLS_SECRET, service: 'signet-governance' },
] as const

/** All names by which a Service is called from inside the cluster. */
export function serviceNames(service: string, namespace: string): string[] {
  return [
    `${service}.${namespace}.svc`,
    `${service}.${namespace}.svc.cluster.local`,
    `${service}.${namespace}`,
    service,
  ]
}

async function keepAuthority(options: CertificateKeeperOptions): Promise<AuthorityState> {
  const { objects, now } = options
  const secret = await objects.readSecret(CA_SECRET)
  const state = secret === null ? null : readAuthority(secret)
  const decision = decideAuthority(state, now().getTime())
  const make = (): Promise<KeyPair> => createAuthority({ now: now(), lifetimeMs: options.caLifetimeMs })
  let after: AuthorityState
  switch (decision.step) {
    case 'keep':
      return state!
    case 'create': {
      const signing = await make()
      after = { signing, next: null, trusted: [signing.cert, ...decision.trusted] }
      break
    }
    case 'announce': {
      const next = await make()
      after = { signing: state!.signing, next, trusted: [...decision.trusted, next.cert] }
      break
    }
    case 'promote':
    case 'prune':
      after = decision.state
      break
  }
  await objects.writeSecret(CA_SECRET, secret, 'Opaque', {
    'tls.crt': after.signing.cert,
    'tls.key': after.signing.key,
    'ca.crt': trustBundle(after.trusted),
    ...(after.next === null ? {} : { 'next.crt': after.next.cert, 'next.key': after.next.key }),
  })
  options.onIssued?.(CA_SECRET, decision.step === 'create' ? `created: ${decision.reason}` : decision.step)
  return after
}

export function readAuthority(secret: Secret): AuthorityState {
  const pair = (cert: string, key: string): KeyPair | null => {
    const [certText, keyText] = [secretText(secret, cert), secretText(secret, key)]
    return certText === undefined || keyText === undefined ? null : { cert: certText, key: keyText }
  }
  return {
    signing: pair('tls.crt', 'tls.key') ?? { cert: '', key: '' },
    next: pair('next.crt', 'next.key'),
    trusted: splitCertificates(secretText(secret, 'ca.crt') ?? ''),
  }
}

async function keepServing(
  options: CertificateKeeperOptions,
  state: AuthorityState,
  name: string,
  service: string,
): Promise<void> {
  const { objects, now } = options
  const secret = await objects.readSecret(name)
  const dnsNames = serviceNames(service, options.namespace)
  const cert = secret === null ? undefined : secretText(secret, 'tls.crt')
  const key = secret === null ? undefined : secretText(secret, 'tls.key')
  const pair = cert === undefined || key === undefined ? null : { cert, key }
  const fault = servingFault(pair, { authority: state.signing.cert, dnsNames, nowMs: now().getTime() })
  const trusted = trustBundle(state.trusted)
  if (fault === null && secret !== null && secretText(secret, 'ca.crt') === trusted) return
  const serving =
    fault === null && pair !== null
      ? pair
      : await issueServing({ authority: state.signing, dnsNames, now: now(), lifetimeMs: options.servingLifetimeMs })
  await objects.writeSecret(name, secret, 'kubernetes.io/tls', {
    'tls.crt': serving.cert,
    'tls.key': serving.key,
    'ca.crt': trusted,
  })
  options.onIssued?.(name, fault ?? 'what is trusted has changed')
}
