import type { Values } from './render.ts'

/** Everything that can be turned on, on. */
export const EVERYTHING: Values = {
  image: {
    registry: 'registry.example/mirror',
    tag: '1.2.3',
    digests: { proxy: `sha256:${'a'.repeat(64)}`, operator: `sha256:${'b'.repeat(64)}` },
    pullPolicy: 'Always',
    pullSecrets: ['mirror'],
  },
  operator: {
    replicas: 3,
    priorityClassName: 'system-cluster-critical',
    nodeSelector: { 'node.example/pool': 'platform' },
    tolerations: [{ key: 'platform', operator: 'Exists' }],
  },
  ledger: {
    replicas: 5,
    serviceAccounts: { 'auditing/auditor': { tenant: 'acme', tenants: ['globex'], scopes: ['audit:read'] } },
    deniedProducers: [{ namespace: 'shop', service_account: 'web', reason: 'incident 12' }],
    databaseCa: { secretName: 'database-ca' },
    priorityClassName: 'platform',
  },
  governance: {
    replicas: 3,
    databaseCa: { secretName: 'database-ca' },
    firstTenant: { tenant: 'acme', adminEmail: 'admin@acme.example', passwordSecret: 'first-password' },
    evidence: { endpoint: 'https://objects.example', credentialsSecret: 'evidence' },
    bundleKey: { secretName: 'bundle-key' },
    sealingKey: { secretName: 'sealing-key' },
    stripe: { secretName: 'stripe' },
    scanNamespaces: { acme: ['shop', 'payments'], globex: ['other', 'shop'] },
    env: [{ name: 'SIGNET_GOVERNANCE_SWEEP_AFTER_MS', value: '30000' }],
    egress: [{ to: [{ ipBlock: { cidr: '10.9.0.0/16' } }], ports: [{ protocol: 'TCP', port: 443 }] }],
    priorityClassName: 'platform',
  },
  injection: {
    mode: 'shadow',
    capture: 'redirect',
    env: { SIGNET_LOG_LEVEL: 'debug', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector.observability:4318' },
  },
  fence: { trustedContainers: ['istio-proxy=registry.example/istio/proxyv2:'] },
  namespaceMap: {
    default: { region: 'eu-central-1' },
    namespaces: {
      shop: { tenant: 'acme', tenants: ['globex'], region: 'eu-west-1', channel: 'internal', passthroughPorts: [9000] },
    },
  },
  networkPolicies: {
    apiServer: { cidrs: ['10.0.0.1/32', 'fd00::1/128'], ports: [6443] },
    metrics: { namespaces: ['monitoring', 'observability'] },
    applications: [
      { namespace: 'shop' },
      { namespace: 'other', podLabels: { app: 'api' } },
      { namespace: 'payments', capture: 'redirect' },
    ],
  },
  monitoring: {
    monitors: { enabled: true, labels: { release: 'prometheus' } },
    rules: { enabled: true, labels: { release: 'prometheus' } },
    dashboards: { enabled: true },
  },
  tracing: { endpoint: 'http://collector.observability:4318' },
}

/** What people install, by name. Each is rendered, linted and shown to a real API server. */
export const VALUE_SETS: Readonly<Record<string, Values>> = {
  defaults: {},
  everything: EVERYTHING,
  'external databases': {
    trialDatabases: { enabled: false },
    ledger: {
      wall: { existingSecret: 'wall', urlKey: 'dsn', ownerUrlKey: 'owner-dsn', poolSize: 20 },
      work: { existingSecret: 'work' },
    },
    governance: { database: { existingSecret: 'governance', urlKey: 'dsn', ownerUrlKey: 'owner-dsn', poolSize: 20 } },
  },
  'external databases, migrated by hand': {
    trialDatabases: { enabled: false },
    ledger: { migrate: false },
    governance: { migrate: false },
  },
  'no governance': { governance: { enabled: false } },
  'trial without volumes': { trialDatabases: { persistence: { enabled: false } } },
  'one replica each': { operator: { replicas: 1 }, ledger: { replicas: 1 }, governance: { replicas: 1 } },
  'cert-manager': { certificates: { issuer: 'cert-manager' } },
  'cert-manager with an issuer of the platform': {
    certificates: {
      issuer: 'cert-manager',
      issuerRef: { name: 'platform', kind: 'ClusterIssuer', group: 'cert-manager.io' },
    },
  },
  'shadow, redirect': { injection: { mode: 'shadow', capture: 'redirect' } },
  'no network policies': { networkPolicies: { enabled: false } },
  IPv6: { listenHost: '[::]', networkPolicies: { apiServer: { cidrs: ['fd00::1/128'] } } },
  'monitoring alone': {
    monitoring: { monitors: { enabled: true }, rules: { enabled: true }, dashboards: { enabled: true } },
  },
  'no metrics for anybody': { networkPolicies: { metrics: { namespaces: [] } } },
  'own rules only': { operator: { standardPack: false } },
}
