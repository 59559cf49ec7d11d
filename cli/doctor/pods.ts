import { decideEligibility, isRequired } from '#core/injection/eligibility.ts'
import { ADMIN_PORT, ANNOTATIONS, PROXY_PORT, REDIRECT, SIDECAR } from '#core/injection/names.ts'
import { withoutInjection } from '#core/injection/original.ts'
import { namespaceFacts, templateHash, type NamespaceFacts } from '#core/injection/settings.ts'
import type { Finding } from './finding.ts'
import { ownerName, restartCommand } from './restart.ts'
import type { ObservedPod, ObservedService, Snapshot } from './snapshot.ts'

/** Findings on pods and on the Services that lead to them. */
export function examinePods(snapshot: Snapshot): Finding[] {
  const findings = snapshot.pods.flatMap((pod) => examinePod(pod, snapshot))
  return [...merged(findings), ...examineServices(snapshot)]
}

/** What Signet knows of a namespace; null where the namespace map refuses it. */
function factsOf(namespace: string, { namespaceMap, namespaces }: Snapshot): NamespaceFacts | null {
  try {
    return namespaceFacts(namespaceMap, { name: namespace, labels: namespaces.get(namespace) ?? {} })
  } catch {
    return null
  }
}

type Located = Finding & { readonly of: ObservedPod }

function examinePod(of: ObservedPod, snapshot: Snapshot): Located[] {
  const { namespace, pod } = of
  if (namespace === snapshot.operatorNamespace) return []
  const facts = factsOf(namespace, snapshot)
  if (facts === null) {
    const message = 'the namespace map lets nobody be a workload here: the namespace has the name of a tenant of others'
    return isInjected(of) ? [located(of, 'not-injected', 'error', message)] : []
  }
  if (isInjected(of)) return [...injectionFindings(of, facts, snapshot), ...bundleFindings(of, snapshot)]
  const { verdict, reason } = decideEligibility(withoutInjection(pod), facts)
  const fix = restartCommand(of)
  if (verdict === 'inject') return [located(of, 'not-injected', 'error', `has no sidecar, although ${reason}`, fix)]
  if (verdict === 'refuse')
    return [located(of, 'not-injected', 'error', `has no sidecar and cannot have one: ${reason}`)]
  return []
}

function injectionFindings(of: ObservedPod, facts: NamespaceFacts, snapshot: Snapshot): Located[] {
  const found: Located[] = []
  const fix = restartCommand(of)
  if (of.sidecarReady === false && of.phase === 'Running') {
    const look = `kubectl logs ${of.name} -c ${SIDECAR} -n ${of.namespace}`
    found.push(located(of, 'sidecar-not-ready', 'warning', 'the sidecar is not ready; its log says why', look))
  }
  if (isRequired(facts) && !hasRedirect(of)) {
    const message = 'the namespace requires Signet, and the pod can be reached around its sidecar (capture named-port)'
    found.push(located(of, 'weak-capture', 'error', message, fix))
  }
  if (snapshot.template === null || snapshot.trust === null) return found
  const { template, trust } = snapshot
  const hash = (trustCa: string): string => templateHash({ template: { ...template, trustCa }, namespace: facts })
  const is = of.pod.metadata?.annotations?.[ANNOTATIONS.injected]
  if (is === hash(trust.current)) return found
  if (trust.previous !== null && is === hash(trust.previous)) {
    const message = 'was injected before the platform’s authority was renewed; restart it before the former one ends'
    return [...found, located(of, 'stale-injection', 'warning', message, fix)]
  }
  return [
    ...found,
    located(of, 'stale-injection', 'warning', 'was injected with other settings than those in force', fix),
  ]
}

function bundleFindings(of: ObservedPod, { bundles, reports, operatorNamespace }: Snapshot): Located[] {
  if (bundles === null || of.phase !== 'Running') return []
  const current = bundles.get(of.namespace)
  const logs = `kubectl logs deployment/signet-operator -n ${operatorNamespace}`
  if (current === undefined)
    return [located(of, 'bundle-not-current', 'error', 'there is no bundle for its namespace yet', logs)]
  const report = reports.get(of.uid)
  const own = `kubectl logs ${of.name} -c ${SIDECAR} -n ${of.namespace}`
  if (report === undefined)
    return [located(of, 'bundle-not-current', 'warning', 'has not said which bundle it has in force', own)]
  if (report.revision === current) return []
  const why = report.code === null ? '' : `: ${report.code}${report.message === null ? '' : ` (${report.message})`}`
  const has = report.revision ?? 'none'
  return [located(of, 'bundle-not-current', 'warning', `has bundle ${has} in force, not ${current}${why}`, own)]
}

/** Services that lead to a port of the application by number, where the sidecar took over its name. */
function examineServices({ services, pods, operatorNamespace }: Snapshot): Finding[] {
  const byNamespace = Map.groupBy(pods.filter(isInjected), ({ namespace }) => namespace)
  return services.flatMap((service) => {
    if (service.namespace === operatorNamespace) return []
    const reached = (byNamespace.get(service.namespace) ?? []).filter((of) => !hasRedirect(of) && selects(service, of))
    const around = service.ports.filter(({ targetPort }) => reached.some((of) => goesAround(targetPort, of)))
    return around.map(({ port, targetPort }): Finding => {
      const message = `port ${port} leads to ${targetPort} by number, around the sidecar of ${reached.length} pods`
      const fix = `name the container's port and let targetPort be that name, or use the annotation ${ANNOTATIONS.capture}: redirect`
      return {
        check: 'numeric-target-port',
        severity: 'error',
        namespace: service.namespace,
        object: `service/${service.name}`,
        message,
        fix,
      }
    })
  })
}

function goesAround(targetPort: number | string, of: ObservedPod): boolean {
  if (typeof targetPort === 'string' && !/^\d+$/.test(targetPort)) return false
  const number = Number(targetPort)
  return number !== PROXY_PORT && number !== ADMIN_PORT && number === applicationPort(of)
}

/** What the sidecar stands in front of: only that port is captured, and only there going around matters. */
function applicationPort({ pod }: ObservedPod): number | null {
  const sidecar = pod.spec.initContainers?.find(({ name }) => name === SIDECAR)
  const upstream = sidecar?.env?.find(({ name }) => name === 'SIGNET_UPSTREAM')?.value
  return upstream !== undefined && URL.canParse(upstream) ? Number(new URL(upstream).port) || 80 : null
}

function selects({ selector }: ObservedService, { pod }: ObservedPod): boolean {
  const wanted = Object.entries(selector)
  return wanted.length > 0 && wanted.every(([name, value]) => pod.metadata?.labels?.[name] === value)
}

function isInjected({ pod }: ObservedPod): boolean {
  return pod.spec.initContainers?.some(({ name }) => name === SIDECAR) === true
}

function hasRedirect({ pod }: ObservedPod): boolean {
  return pod.spec.initContainers?.some(({ name }) => name === REDIRECT) === true
}

function located(
  of: ObservedPod,
  check: Finding['check'],
  severity: Finding['severity'],
  message: string,
  fix?: string,
): Located {
  return {
    of,
    check,
    severity,
    namespace: of.namespace,
    object: `pod/${of.name}`,
    message,
    ...(fix === undefined ? {} : { fix }),
  }
}

/** The same of several pods of one owner is told once. */
function merged(findings: readonly Located[]): Finding[] {
  const groups = Map.groupBy(findings, ({ of, check, message }) =>
    [of.namespace, ownerName(of), check, message].join('\0'),
  )
  return [...groups.values()].map((group) => {
    const [{ of, ...first }] = group as [Located, ...Located[]]
    if (group.length === 1) return first
    return { ...first, object: ownerName(of), message: `${first.message} (${group.length} pods)` }
  })
}
