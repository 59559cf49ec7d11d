import type { Container, PodObject } from './pod.ts'
import type { InjectionSettings, InjectionTemplate, NamespaceFacts } from './settings.ts'

/** An authority's certificate as far as injection looks at it. */
export const TEST_CA = '-----BEGIN CERTIFICATE-----\nMIIBtestauthority\n-----END CERTIFICATE-----\n'

/** As the chart renders it with its default values. */
export const TEMPLATE: InjectionTemplate = {
  version: 1,
  images: { proxy: 'ghcr.io/signet-dev/signet-proxy:0.1.0', redirect: 'ghcr.io/signet-dev/signet-redirect:0.1.0' },
  ledgerUrl: 'https://signet-ledger.signet-system.svc:8090',
  bundlesUrl: 'https://signet-operator.signet-system.svc:8443',
  trustCa: TEST_CA,
}

export function settings(
  change: { template?: Partial<InjectionTemplate>; namespace?: Partial<NamespaceFacts> } = {},
): InjectionSettings {
  return {
    template: { ...TEMPLATE, ...change.template },
    namespace: {
      name: 'payments',
      labels: { 'signet.dev/inject': 'enabled' },
      tenant: 'payments',
      tenants: ['payments'],
      region: null,
      channel: 'external',
      passthroughPorts: [],
      ...change.namespace,
    },
  }
}

/** Settings of a namespace that requires Signet. */
export function requiredSettings(namespace: Partial<NamespaceFacts> = {}): InjectionSettings {
  return settings({ namespace: { labels: { 'signet.dev/required': 'true' }, ...namespace } })
}

export function container(change: Partial<Container> = {}): Container {
  return { name: 'app', image: 'localhost/app:1', ports: [{ name: 'http', containerPort: 8080 }], ...change }
}

export function pod(change: { metadata?: PodObject['metadata']; spec?: Partial<PodObject['spec']> } = {}): PodObject {
  return {
    metadata: { name: 'reports', ...change.metadata },
    spec: { containers: [container()], ...change.spec },
  }
}
