import { X509Certificate } from 'node:crypto'
import type { Finding } from './finding.ts'
import type { ObservedRule, Snapshot } from './snapshot.ts'

const HOUR_MS = 60 * 60 * 1000
const URGENT_MS = 24 * HOUR_MS
const SOON_MS = 7 * 24 * HOUR_MS
/** Of rules and policies; `Distributed` is no fault while proxies still fetch. */
const MUST_HOLD = ['Accepted', 'Compiled'] as const

/** Findings on rules, webhooks and certificates. */
export function examinePlatform(snapshot: Snapshot): Finding[] {
  return [
    ...installation(snapshot),
    ...snapshot.rules.flatMap(examineRule),
    ...webhookFindings(snapshot),
    ...certificateFindings(snapshot),
  ]
}

function installation({ trust, template, webhooks, operatorNamespace, unchecked }: Snapshot): Finding[] {
  const missing = [
    ...(template === null ? ['ConfigMap signet-settings'] : []),
    ...(trust === null ? ['ConfigMap signet-trust'] : []),
    ...(webhooks?.length === 0 ? ['the webhook configurations «signet»'] : []),
  ].filter((name) => !unchecked.some((line) => line.includes(name)))
  if (missing.length === 0) return []
  const message = `not there: ${missing.join(', ')}`
  const fix = `is Signet installed here? Say where with --operator-namespace; else: kubectl logs deployment/signet-operator -n ${operatorNamespace}`
  return [{ check: 'installation', severity: 'error', namespace: operatorNamespace, object: 'namespace', message, fix }]
}

function examineRule(rule: ObservedRule): Finding[] {
  const finding = (severity: Finding['severity'], message: string): Finding => ({
    check: 'rule-not-in-force',
    severity,
    namespace: rule.namespace,
    object: `${rule.kind.toLowerCase()}/${rule.name}`,
    message,
    fix: `kubectl describe ${rule.kind.toLowerCase()} ${rule.name} -n ${rule.namespace}`,
  })
  if (rule.observedGeneration < rule.generation)
    return [finding('error', 'the operator has not taken up its latest change')]
  const condition = (type: string): ObservedRule['conditions'][number] | undefined =>
    rule.conditions.find((one) => one.type === type)
  for (const type of MUST_HOLD) {
    const found = condition(type)
    if (found !== undefined && found.status !== 'True')
      return [finding('error', `is not ${type}: ${found.reason}: ${found.message}`)]
  }
  const distributed = condition('Distributed')
  if (distributed !== undefined && distributed.status === 'False')
    return [finding('warning', `is not at all proxies yet: ${distributed.message}`)]
  return []
}

function webhookFindings({ webhooks, trust, operatorNamespace }: Snapshot): Finding[] {
  if (webhooks === null || trust === null) return []
  return webhooks
    .filter(({ caBundle }) => normal(decoded(caBundle)) !== normal(trust.current))
    .map(({ kind, name, caBundle }) => ({
      check: 'webhook-ca',
      severity: 'error',
      namespace: '',
      object: `${kind.toLowerCase()}/${name}`,
      message: `its caBundle ${caBundle === '' ? 'is empty' : 'is not the authority in ConfigMap signet-trust'}: the API server cannot call it`,
      fix: `the operator keeps it: kubectl logs deployment/signet-operator -n ${operatorNamespace}`,
    }))
}

function certificateFindings({ certificates, trust, now, operatorNamespace }: Snapshot): Finding[] {
  const authority = trust === null ? [] : [{ name: 'configmap/signet-trust', pem: trust.current }]
  return [...authority, ...certificates].flatMap(({ name, pem }) => {
    const ends = blocks(pem).flatMap(endOf)
    // Of an authority's several certificates the last one counts: the former ones are on their way out.
    const end = name.startsWith('configmap/') ? Math.max(...ends) : (ends[0] ?? Number.NaN)
    const left = end - now.getTime()
    if (ends.length === 0 || left >= SOON_MS) return []
    const when = new Date(end).toISOString()
    return [
      {
        check: 'certificate-expiry',
        severity: left < URGENT_MS ? 'error' : 'warning',
        namespace: operatorNamespace,
        object: name,
        message: left < 0 ? `its certificate ended at ${when}` : `its certificate ends at ${when} and was not renewed`,
        fix: `kubectl logs deployment/signet-operator -n ${operatorNamespace}`,
      } satisfies Finding,
    ]
  })
}

/** None for what is no certificate. */
function endOf(block: string): number[] {
  try {
    return [new X509Certificate(block).validToDate.getTime()]
  } catch {
    return []
  }
}

function blocks(pem: string): string[] {
  return pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
}

function decoded(base64: string): string {
  return Buffer.from(base64, 'base64').toString('utf8')
}

/** Line ends and comments between certificates do not count. */
function normal(pem: string): string {
  return blocks(pem)
    .map((block) => block.replaceAll(/\s/g, ''))
    .sort()
    .join()
}
