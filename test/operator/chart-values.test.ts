import { readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { TUNABLE_VARIABLES } from '#core/injection/settings.ts'
import { chartFiles } from '#tools/kubernetes/chart-pages.ts'
import { refusal, render, type Values } from './chart/render.ts'
import { EVERYTHING } from './chart/value-sets.ts'

const ROOT = path.resolve(import.meta.dirname, '../..')
const read = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8')

describe('values.schema.json', () => {
  const refused: { name: string; values: Values; want: RegExp }[] = [
    { name: 'a value that there is not', values: { ledgr: {} }, want: /additional properties 'ledgr' not allowed/ },
    { name: 'one below', values: { ledger: { replica: 3 } }, want: /at '\/ledger'[^]*'replica' not allowed/ },
    { name: 'no replicas', values: { operator: { replicas: 0 } }, want: /\/operator\/replicas[^]*minimum/ },
    { name: 'a word for a number', values: { ledger: { replicas: 'three' } }, want: /\/ledger\/replicas[^]*integer/ },
    {
      name: 'an unknown mode',
      values: { injection: { mode: 'audit' } },
      want: /\/injection\/mode[^]*'off', 'shadow', 'enforce'/,
    },
    {
      name: 'a variable that is not tuning',
      values: { injection: { env: { SIGNET_TENANT: 'x' } } },
      want: /\/injection\/env[^]*SIGNET_TENANT/,
    },
    {
      name: 'a digest that is none',
      values: { image: { digests: { proxy: 'latest' } } },
      want: /\/image\/digests\/proxy[^]*pattern/,
    },
    {
      name: 'a namespace that is none',
      values: { namespaceMap: { namespaces: { Shop: {} } } },
      want: /\/namespaceMap\/namespaces[^]*Shop/,
    },
    {
      name: 'a namespace of scans that is none',
      values: { governance: { scanNamespaces: { acme: ['Shop'] } } },
      want: /\/governance\/scanNamespaces[^]*pattern/,
    },
    {
      name: 'a channel that is none',
      values: { namespaceMap: { namespaces: { shop: { channel: 'both' } } } },
      want: /channel[^]*external/,
    },
    {
      name: 'a port that is none',
      values: { networkPolicies: { databases: { ports: [70_000] } } },
      want: /ports\/0[^]*65,?535/,
    },
    { name: 'an issuer that is none', values: { certificates: { issuer: 'vault' } }, want: /\/certificates\/issuer/ },
    {
      name: 'an auditor without scopes',
      values: { ledger: { serviceAccounts: { 'a/b': { tenant: 'x' } } } },
      want: /scopes/,
    },
    {
      name: 'a variable that the chart sets itself',
      values: { ledger: { env: [{ name: 'SIGNET_LEDGER_KEYRING', value: '/x' }] } },
      want: /\/ledger\/env\/0\/name/,
    },
    {
      name: 'a second fence around nothing',
      values: { networkPolicies: { applications: [{ podLabels: {} }] } },
      want: /namespace/,
    },
  ]
  it.each(refused)('refuses $name, and says where', async ({ values, want }) => {
    expect(await refusal(values)).toMatch(want)
  })

  it('is closed everywhere, and lets the same variables tune sidecars as the injection does', () => {
    const schema = JSON.parse(read('charts/signet/values.schema.json')) as Record<string, unknown>
    const open: string[] = []
    const walk = (node: unknown, at: string): void => {
      if (typeof node !== 'object' || node === null) return
      const { type, additionalProperties, properties } = node as Record<string, unknown>
      if (type === 'object' && additionalProperties === undefined && properties !== undefined) open.push(at)
      for (const [key, value] of Object.entries(node)) walk(value, `${at}/${key}`)
    }
    walk(schema, '')
    expect(open).toEqual([])
    expect(JSON.stringify(schema)).toContain(JSON.stringify(TUNABLE_VARIABLES))
  })

  it('knows every value of values.yaml, and values.yaml every value of the schema', () => {
    type Node = { properties?: Record<string, Node>; $ref?: string }
    const schema = JSON.parse(read('charts/signet/values.schema.json')) as Node & { $defs: Record<string, Node> }
    const values = parse(read('charts/signet/values.yaml')) as Values
    const missing: string[] = []
    // Only what has fixed parts: labels, resources and maps are the user's to fill.
    const walk = (node: Node, value: unknown, at: string): void => {
      for (const [name, part] of Object.entries(node.properties ?? {})) {
        if (at === '' && name === 'global') continue
        const has = typeof value === 'object' && value !== null && name in value
        if (!has && !at.endsWith('issuerRef')) missing.push(`${at}.${name}`)
        else if (part.$ref === undefined) walk(part, (value as Values | undefined)?.[name], `${at}.${name}`)
      }
    }
    walk(schema, values, '')
    expect(missing).toEqual([])
  })
})

describe('no value is dead', () => {
  /** What to set a value to where a plain change of it is not allowed, or what it needs beside it. */
  const ALTERNATIVES: Readonly<Record<string, unknown>> = {
    'image.registry': 'other.example/x',
    'image.tag': '9.9.9',
    'image.pullPolicy': 'Never',
    'image.pullSecrets': ['other'],
    listenHost: '[::]',
    'certificates.issuer': 'cert-manager',
    'certificates.issuerRef': { name: 'other', kind: 'Issuer', group: 'cert-manager.io' },
    'fence.trustedContainers': ['linkerd-proxy=x'],
    'governance.egress': [],
    'governance.env': [],
    'governance.evidence.endpoint': 'https://other.example',
    'governance.firstTenant.adminEmail': 'other@acme.example',
    'injection.capture': 'named-port',
    'injection.mode': 'off',
    'injection.env': { SIGNET_LOG_LEVEL: 'trace' },
    'ledger.deniedProducers': [],
    'ledger.env': [{ name: 'SIGNET_LEDGER_TSA_URL', value: 'https://tsa.example' }],
    'ledger.serviceAccounts': {},
    'monitoring.monitors.interval': '5m',
    'monitoring.rules.runbookBaseUrl': 'https://other.example/runbooks',
    'governance.scanNamespaces': { acme: ['other'] },
    'namespaceMap.default': { tenant: 'other' },
    'namespaceMap.namespaces': {},
    'networkPolicies.applications': [],
    'tracing.endpoint': 'http://other:4318',
  }
  const leaves: [string, unknown][] = []
  const document = parse(read('charts/signet/values.yaml')) as Values
  const page = chartFiles()['docs/reference/values.md'] ?? ''
  for (const [, name = ''] of page.matchAll(/^\| `([^`]+)` \|/gm)) {
    const value = name.split('.').reduce<unknown>((at, part) => (at as Values)[part], document)
    leaves.push([name, value])
  }
  const withExtras = (name: string): Values => {
    const external = /^(ledger\.(wall|work)|governance\.database)\.(existingSecret|urlKey|ownerUrlKey)|databases/.test(
      name,
    )
    const certificates = name === 'certificates.issuerRef' ? { certificates: { issuer: 'cert-manager' } } : {}
    return merge(
      merge(EVERYTHING, external && !name.startsWith('trial') ? { trialDatabases: { enabled: false } } : {}),
      certificates,
    )
  }

  it.each(leaves)('%s changes what is rendered', async (name, value) => {
    const changed = ALTERNATIVES[name] ?? otherThan(name, value)
    const base = withExtras(name)
    const before = await render(base)
    expect(await render(merge(base, nested(name, changed)))).not.toBe(before)
  })

  function otherThan(name: string, value: unknown): unknown {
    if (typeof value === 'boolean') return name === 'networkPolicies.enabled' ? false : !flag(name, value)
    if (typeof value === 'number') return value + 7
    if (name.endsWith('logLevel')) return 'trace'
    if (name.includes('.digests.')) return `sha256:${'c'.repeat(64)}`
    if (name.endsWith('.cidrs')) return ['192.0.2.0/24']
    if (name.endsWith('.ports')) return [12_345]
    if (name.endsWith('esources')) return { requests: { cpu: '3' } }
    if (name.endsWith('nodeSelector') || name.endsWith('labels')) return { other: 'x' }
    if (name.endsWith('tolerations')) return [{ key: 'other', operator: 'Exists' }]
    if (name.endsWith('namespaces')) return ['other']
    if (name.endsWith('ize')) return '77Gi'
    return 'other'
  }
  /** What EVERYTHING has set it to. */
  function flag(name: string, standard: boolean): boolean {
    const set = name.split('.').reduce<unknown>((at, part) => (at as Values | undefined)?.[part], EVERYTHING)
    return typeof set === 'boolean' ? set : standard
  }
})

function nested(name: string, value: unknown): Values {
  return name.split('.').reduceRight<unknown>((inner, part) => ({ [part]: inner }), value) as Values
}

/** As Helm merges values: maps by key, anything else as a whole. An empty map takes nothing away, so null stands for it. */
function merge(base: Values, over: Values): Values {
  const merged: Record<string, unknown> = { ...base }
  for (const [key, value] of Object.entries(over)) {
    const before = merged[key]
    const both = isMap(before) && isMap(value) && Object.keys(value).length > 0
    merged[key] = both ? merge(before, value) : value
  }
  return merged
}

function isMap(value: unknown): value is Values {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
