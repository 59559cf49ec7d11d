import { parseArgs } from 'node:util'
import { openCluster } from '../doctor/api.ts'
import type { Finding } from '../doctor/finding.ts'
import { gather } from '../doctor/gather.ts'
import { examinePlatform } from '../doctor/platform.ts'
import { examinePods } from '../doctor/pods.ts'
import { jsonReport, textReport } from '../doctor/report.ts'
import type { Snapshot } from '../doctor/snapshot.ts'
import { EXIT, UsageError } from '../usage.ts'

export const DOCTOR_HELP = `signet doctor [options]

Looks at a cluster and says what is not as it should be: pods without a sidecar or with an outdated one, Services that lead around
it, rules, bundles, webhooks and certificates; and what to restart. It changes nothing.

  -n, --namespace NAME          looks at the pods, Services and rules of one namespace only
  --operator-namespace NAME     where Signet is installed (default signet-system)
  --kubeconfig FILE             default: KUBECONFIG, ~/.kube/config, or the pod's own service account
  --context NAME                another context than the current one
  --json                        a report for scripts

Exit: 0 nothing wrong (warnings may be), 1 errors, 2 usage, or the cluster does not answer, 3 no errors, but not all could be looked at
`

/** What is wrong, the worst first. */
export function diagnose(snapshot: Snapshot): Finding[] {
  const found = [...examinePlatform(snapshot), ...examinePods(snapshot)]
  const key = ({ severity, check, namespace, object }: Finding): string =>
    [severity, check, namespace, object].join('\0')
  return found.toSorted((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0))
}

export async function doctor(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      namespace: { type: 'string', short: 'n' },
      'operator-namespace': { type: 'string', default: 'signet-system' },
      kubeconfig: { type: 'string' },
      context: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  })
  if (positionals.length > 0) throw new UsageError(`what is ${positionals[0]} for?`, DOCTOR_HELP)
  for (const name of [values.namespace, values['operator-namespace']]) {
    if (name !== undefined && !/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(name))
      throw new UsageError(`${name} is no name of a namespace`)
  }
  const api = openCluster({ kubeconfig: values.kubeconfig, context: values.context })
  const snapshot = await gather({
    api,
    operatorNamespace: values['operator-namespace'],
    namespace: values.namespace,
    now: new Date(),
  })
  const findings = diagnose(snapshot)
  const report = { server: api.server, findings, unchecked: snapshot.unchecked, pods: snapshot.pods.length }
  process.stdout.write(values.json ? jsonReport(report) : textReport(report))
  if (findings.some(({ severity }) => severity === 'error')) return EXIT.invalid
  return snapshot.unchecked.length > 0 ? EXIT.unchecked : 0
}
