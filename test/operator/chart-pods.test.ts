import { readFileSync } from 'node:fs'
import path from 'node:path'
import type { TObject } from 'typebox'
import { describe, expect, it } from 'vitest'
import { TRIAL_CONFIG } from '#cli/trial/config.ts'
import { checkNamespaceMap } from '#core/identity/namespace-map.ts'
import { parseInjectionTemplate } from '#core/injection/settings.ts'
import { CREATE_TENANT_CONFIG, GOVERNANCE_CONFIG, GOVERNANCE_MIGRATE_CONFIG } from '#governance/config.ts'
import { INIT_KEYS_CONFIG, LEDGER_CONFIG, MIGRATE_CONFIG } from '#ledger/config.ts'
import { OPERATOR_CONFIG } from '#operator/config.ts'
import { readConfig } from '#runtime/config.ts'
import { checkServiceAccountFile } from '#runtime/identity/workload.ts'
import { NAMESPACE, objects, podTemplates, render, type Container, type Rendered, type Values } from './chart/render.ts'
import { EVERYTHING, VALUE_SETS } from './chart/value-sets.ts'

const ROOT = path.resolve(import.meta.dirname, '../..')
const read = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8')
const SETS = Object.entries(VALUE_SETS)

describe('what pods get', () => {
  const CONFIGS: Readonly<Record<string, TObject>> = {
    'signet-operator/operator': OPERATOR_CONFIG,
    'signet-ledger/ledger': LEDGER_CONFIG,
    'signet-ledger/init-keys': INIT_KEYS_CONFIG,
    'signet-ledger/migrate': MIGRATE_CONFIG,
    'signet-governance/governance': GOVERNANCE_CONFIG,
    'signet-governance/migrate': GOVERNANCE_MIGRATE_CONFIG,
    'signet-governance/first-tenant': CREATE_TENANT_CONFIG,
    'signet-trial-wall/postgres': TRIAL_CONFIG,
    'signet-trial-work/postgres': TRIAL_CONFIG,
  }
  const containersOf = (rendered: readonly Rendered[]): [string, Container][] =>
    [...podTemplates(rendered)].flatMap(([name, { spec }]) =>
      [...(spec.initContainers ?? []), ...spec.containers].map((one): [string, Container] => [
        `${name}/${one.name}`,
        one,
      ]),
    )

  it.each(SETS)('is a configuration that each process takes: %s', async (_name, values) => {
    for (const [name, { env = [] }] of containersOf(objects(await render(values)))) {
      const schema = CONFIGS[name]
      if (schema === undefined) throw new Error(`${name}: no configuration is known for it`)
      // Those of the store's SDK are its own to read.
      const own = env.map((one) => one.name).filter((variable) => !variable.startsWith('AWS_'))
      const unknown = own.filter((variable) => !(variable in schema.properties))
      expect(unknown, name).toEqual([])
      // What is not in the chart comes from the image, the kubelet or a Secret.
      const given = { SIGNET_OPA: '/usr/local/bin/opa', KUBERNETES_SERVICE_HOST: '10.96.0.1' }
      const known = env.map((one) => [one.name, one.value ?? fromElsewhere(one.name)])
      expect(
        () => readConfig(schema, { ...given, ...(Object.fromEntries(known) as Record<string, string>) }),
        name,
      ).not.toThrow()
    }
  })

  it('are settings, a namespace map and service accounts in the form that is read', async () => {
    const rendered = objects(await render(EVERYTHING))
    const file = (name: string, key: string): unknown => {
      const found = rendered.find(({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === name)
      return JSON.parse((found as { data?: Record<string, string> } | undefined)?.data?.[key] ?? '')
    }
    const settings = file('signet-settings', 'injection.json') as object
    const template = parseInjectionTemplate({ ...settings, trustCa: '-----BEGIN CERTIFICATE-----' })
    expect(template).toMatchObject({
      images: {
        proxy: `registry.example/mirror/signet-proxy@sha256:${'a'.repeat(64)}`,
        redirect: 'registry.example/mirror/signet-redirect:1.2.3',
      },
      mode: 'shadow',
      capture: 'redirect',
      ledgerUrl: `https://signet-ledger.${NAMESPACE}.svc:8090`,
    })
    const map = checkNamespaceMap(file('signet-identity', 'namespaces.json'), 'the map')
    expect(map.namespaces['shop']).toMatchObject({ tenant: 'acme', passthroughPorts: [9000] })
    const accounts = checkServiceAccountFile(file('signet-identity', 'service-accounts.json'), 'the file')
    expect(Object.keys(accounts.service_accounts).sort()).toEqual([
      'auditing/auditor',
      `${NAMESPACE}/signet-governance`,
      `${NAMESPACE}/signet-operator`,
    ])
  })

  it.each(SETS)('is hardened, bounded and without a token that it does not need: %s', async (_name, values) => {
    const rendered = objects(await render(values))
    for (const [name, { spec, metadata }] of podTemplates(rendered)) {
      expect(spec.automountServiceAccountToken, name).toBe(false)
      expect(metadata.annotations?.['signet.dev/inject'], name).toBe('disabled')
      expect(JSON.stringify(spec.volumes), name).not.toContain('hostPath')
    }
    for (const [name, container] of containersOf(rendered)) {
      expect(container.securityContext, name).toEqual({
        allowPrivilegeEscalation: false,
        privileged: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      })
      expect(container.resources?.requests, name).toBeDefined()
      expect(container.resources?.limits, name).toHaveProperty('memory')
    }
    // The owner's connection strings reach the containers alone that migrate, and that make a tenant.
    const changers = ['signet-ledger/migrate', 'signet-governance/migrate', 'signet-governance/first-tenant']
    const owners = containersOf(rendered).filter(([, { env = [] }]) =>
      env.some(({ name }) => name.includes('OWNER_URL')),
    )
    expect(owners.map(([name]) => name).filter((name) => !changers.includes(name))).toEqual([])
  })

  it.each([
    { operator: {}, want: '3584Mi', mib: '2048' },
    { operator: { opaMemoryMiB: 6_000 }, want: '7536Mi', mib: '6000' },
    { operator: { resources: { limits: { cpu: '2' } } }, want: '3584Mi', mib: '2048' },
    { operator: { resources: { limits: { memory: '9Gi' } } }, want: '9Gi', mib: '2048' },
  ])('has room for OPA beside Node in the operator: $want', async ({ operator, want, mib }) => {
    const container = containersOf(objects(await render({ operator }))).find(([name]) =>
      name.startsWith('signet-operator/'),
    )![1]
    expect(container.resources?.limits).toMatchObject({ memory: want, ...operator.resources?.limits })
    expect(container.resources?.requests).toEqual({ cpu: '250m', memory: '512Mi' })
    expect(container.env?.find(({ name }) => name === 'SIGNET_OPA_MEMORY_MIB')?.value).toBe(mib)
  })

  it('lets nobody but Prometheus at the admin port of sidecars, through which hooks can be called', async () => {
    const policies = async (values: Values) =>
      objects(await render(values))
        .filter(({ metadata }) => metadata.name === 'signet-sidecar-ports')
        .map(({ metadata, spec }) => ({ namespace: metadata.namespace, ...(spec as { ingress: object[] }) }))
    const applications = [{ namespace: 'shop' }, { namespace: 'payments', capture: 'redirect' }]
    const map = { namespaces: { shop: { passthroughPorts: [9000] } } }
    const scrapers = {
      ports: [{ protocol: 'TCP', port: 15094 }],
      from: [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'monitoring' } } }],
    }
    const open = (...ports: object[]) => ({ ports: ports.map((port) => ({ protocol: 'TCP', ...port })) })
    expect(await policies({ namespaceMap: map, networkPolicies: { applications } })).toMatchObject([
      { namespace: 'shop', ingress: [open({ port: 15080 }, { port: 9000 }), scrapers] },
      {
        namespace: 'payments',
        ingress: [open({ port: 1, endPort: 15093 }, { port: 15095, endPort: 65535 }), scrapers],
      },
    ])
    const silent = await policies({ networkPolicies: { applications, metrics: { namespaces: [] } } })
    expect(silent.map(({ ingress }) => ingress.length)).toEqual([1, 1])
  })

  it('is disrupted one at a time where there are several, and not held up where there is one', async () => {
    const budgets = async (values: Values): Promise<string[]> =>
      objects(await render(values))
        .filter(({ kind }) => kind === 'PodDisruptionBudget')
        .map(({ metadata }) => metadata.name)
        .sort()
    expect(await budgets({})).toEqual(['signet-governance', 'signet-ledger', 'signet-operator'])
    expect(
      await budgets({ operator: { replicas: 1 }, ledger: { replicas: 1 }, governance: { enabled: false } }),
    ).toEqual([])
  })

  function fromElsewhere(variable: string): string {
    if (variable.endsWith('_URL')) return 'postgres://user:password@host:5432/database'
    if (variable.endsWith('_UID')) return '2d9f1a4e-0000-4000-8000-000000000000'
    return 'signet-operator-0'
  }
})

describe('rights', () => {
  it('of the operator are the table of docs/operator.md', async () => {
    const rows = [...read('docs/operator.md').matchAll(/^\| (cluster|own) \|([^|]+)\|([^|]+)\|([^|]*)\|([^|]+)\|/gm)]
    const names = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name)
    const wanted = rows.map(([, where, group = '', resources = '', only = '', verbs = '']) =>
      line(
        where === 'own',
        names(group),
        names(resources),
        names(only),
        verbs.split(',').map((verb) => verb.trim()),
      ),
    )
    const rendered = objects(await render())
    const rules = (
      kind: string,
    ): { apiGroups: string[]; resources: string[]; resourceNames?: string[]; verbs: string[] }[] =>
      (rendered.find((one) => one.kind === kind && one.metadata.name === 'signet-operator')?.['rules'] ?? []) as never
    const given = [
      ...rules('ClusterRole').map((rule) =>
        line(
          false,
          rule.apiGroups.filter((group) => group !== ''),
          rule.resources,
          rule.resourceNames ?? [],
          rule.verbs,
        ),
      ),
      ...rules('Role').map((rule) =>
        line(
          true,
          rule.apiGroups.filter((group) => group !== ''),
          rule.resources,
          rule.resourceNames ?? [],
          rule.verbs,
        ),
      ),
    ]
    expect(given.sort()).toEqual(wanted.sort())
  })

  it('hold no star, and nobody may read all Secrets', async () => {
    for (const { kind, metadata, ...object } of objects(await render(EVERYTHING))) {
      if (kind !== 'Role' && kind !== 'ClusterRole') continue
      for (const rule of object['rules'] as { resources: string[]; resourceNames?: string[]; verbs: string[] }[]) {
        expect(JSON.stringify(rule), metadata.name).not.toContain('"*"')
        const reads = rule.verbs.some((verb) => ['get', 'list', 'watch', 'update', 'patch', 'delete'].includes(verb))
        if (rule.resources.includes('secrets') && reads) expect(rule.resourceNames, metadata.name).toBeDefined()
      }
    }
  })

  function line(own: boolean, groups: string[], resources: string[], only: string[], verbs: string[]): string {
    const list = (items: string[]): string => items.toSorted().join(',')
    return [own ? 'own' : 'cluster', list(groups), list(resources), list(only), list(verbs)].join(' ')
  }
})
