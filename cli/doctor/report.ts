import type { Finding } from './finding.ts'

export type Diagnosis = {
  readonly server: string
  readonly findings: readonly Finding[]
  readonly unchecked: readonly string[]
  /** How much was looked at. */
  readonly pods: number
}

/** `kubectl rollout restart …` lines of the findings, each once. */
export function restarts(findings: readonly Finding[]): string[] {
  const lines = findings.flatMap(({ fix }) =>
    fix !== undefined && /^kubectl (rollout restart|delete pod)/.test(fix) ? [fix] : [],
  )
  return [...new Set(lines)].sort()
}

/** For scripts: version 1. */
export function jsonReport({ server, findings, unchecked, pods }: Diagnosis): string {
  const report = { version: 1, server, pods, findings, restart: restarts(findings), unchecked }
  return `${JSON.stringify(report, null, 2)}\n`
}

export function textReport({ server, findings, unchecked, pods }: Diagnosis): string {
  const lines: string[] = []
  for (const severity of ['error', 'warning'] as const) {
    const some = findings.filter((finding) => finding.severity === severity)
    for (const { check, namespace, object, message, fix } of some) {
      const place = namespace === '' ? object : `${namespace} ${object}`
      lines.push(`${severity === 'error' ? 'ERROR  ' : 'warning'}  ${place}  ${message}  [${check}]`)
      if (fix !== undefined && restarts([{ check, severity, namespace, object, message, fix }]).length === 0)
        lines.push(`         ${fix}`)
    }
  }
  const restart = restarts(findings)
  if (restart.length > 0) lines.push('', 'To restart:', ...restart.map((line) => `  ${line}`))
  if (unchecked.length > 0) lines.push('', 'Not checked:', ...unchecked.map((line) => `  ${line}`))
  const count = (severity: Finding['severity']): number =>
    findings.filter((finding) => finding.severity === severity).length
  const errors = count('error')
  const warnings = count('warning')
  if (lines.length > 0) lines.push('')
  lines.push(
    `${server}: ${pods} pods looked at, ${errors} ${errors === 1 ? 'error' : 'errors'}, ${warnings} ${warnings === 1 ? 'warning' : 'warnings'}`,
  )
  return `${lines.join('\n')}\n`
}
