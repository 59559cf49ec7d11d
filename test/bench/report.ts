import type { Candidate } from './candidates.ts'
import type { Row } from './measure.ts'

/** Under what a run was made; part of what it says. */
export type Conditions = {
  readonly date: string
  readonly machine: string
  readonly node: string
  readonly client: string
  readonly upstream: string
  readonly pinning: string
  readonly rounds: string
  readonly audit: string
  /** One line a candidate that stamps. */
  readonly reconciled: readonly string[]
}

export type Goal = { readonly candidate: string; readonly size: string; readonly ratio: number; readonly issue: number }

export const GOALS: readonly Goal[] = [
  { candidate: 'Signet enforce, metadata rules', size: '1 KB', ratio: 1, issue: 3 },
  { candidate: 'Signet enforce, metadata rules', size: '10 KB', ratio: 1, issue: 3 },
  { candidate: 'Signet enforce, standard pack', size: '1 KB', ratio: 0.7, issue: 7 },
  { candidate: 'Signet enforce, standard pack', size: '10 KB', ratio: 0.5, issue: 7 },
  { candidate: 'Signet enforce, standard pack', size: '100 KB', ratio: 0.5, issue: 7 },
]

const HEAD = [
  '',
  'requests/s',
  '× plain',
  'range',
  'p50 ms',
  'p99 ms',
  'CPU µs/request',
  'audited in time',
  'disturbed',
]

/** A table for each size, in plain text or Markdown. */
export function tables(rows: readonly Row[], candidates: readonly Candidate[], markdown: boolean): string {
  const sizes = [...new Set(rows.map(({ size }) => size))]
  return sizes
    .map((size) => {
      const cells = candidates.map((candidate) => {
        const row = rows.find((row) => row.size === size && row.candidate === candidate.name)
        return row === undefined ? [candidate.name, candidate.missing ?? '', '', '', '', '', '', '', ''] : cellsOf(row)
      })
      return markdown ? `### ${size}\n\n${markdownTable(cells)}` : `${size}\n${textTable(cells)}`
    })
    .join('\n\n')
}

function cellsOf(row: Row): string[] {
  const [lowest, highest] = row.ratioRange
  return [
    row.candidate,
    Math.round(row.requestsPerSecond).toLocaleString('en'),
    row.ratio.toFixed(2),
    `${lowest.toFixed(2)}–${highest.toFixed(2)}`,
    row.p50Ms.toFixed(2),
    row.p99Ms.toFixed(2),
    row.cpuMicrosPerRequest === null ? '' : row.cpuMicrosPerRequest.toFixed(0),
    row.auditedInTime === null ? '' : `${Math.round(row.auditedInTime * 100)} %`,
    row.disturbed === null ? '' : `${Math.round(row.disturbed * 100)} %`,
  ]
}

function textTable(cells: readonly string[][]): string {
  const widths = HEAD.map((head, column) => Math.max(head.length, ...cells.map((row) => (row[column] ?? '').length)))
  return [HEAD, ...cells]
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

function markdownTable(cells: readonly string[][]): string {
  const line = (row: readonly string[]): string => `| ${row.join(' | ')} |`
  return [line(HEAD), line(HEAD.map((_, column) => (column === 0 ? '---' : '---:'))), ...cells.map(line)].join('\n')
}

/** Each goal and whether this run met it. */
export function goalLines(rows: readonly Row[]): string[] {
  return GOALS.flatMap((goal) => {
    const row = rows.find(({ candidate, size }) => candidate === goal.candidate && size === goal.size)
    if (row === undefined) return []
    const met = row.ratio >= goal.ratio ? 'met' : 'not met'
    return [
      `${goal.candidate}, ${goal.size}: ${row.ratio.toFixed(2)} × plain; goal ${goal.ratio} (issue ${goal.issue}): ${met}`,
    ]
  })
}

export function conditionLines(conditions: Conditions): string[] {
  return [
    `Date: ${conditions.date}`,
    `Machine: ${conditions.machine}; ${conditions.node}`,
    `Placement: ${conditions.pinning}`,
    `Client: ${conditions.client}`,
    `Upstream: ${conditions.upstream}`,
    `Rounds: ${conditions.rounds}`,
    `Audit: ${conditions.audit}`,
    ...conditions.reconciled.map((line) => `Checked: ${line}`),
  ]
}

export function benchmarkPage(rows: readonly Row[], candidates: readonly Candidate[], conditions: Conditions): string {
  return `# Benchmarks

Written by \`npm run bench -- --write\`; the numbers behind it are in [latest.json](latest.json). What was learnt from them:
[performance](../performance.md).

![Requests per second, relative to plain @fastify/http-proxy](latest.svg)

"× plain" is against plain \`@fastify/http-proxy\` passing through: the median of the ratios within each round, and their range.
"CPU µs/request" is CPU time of the measured process with all its threads (for Signet: stamping, spool, fsync and sending to the ledger).
"Audited in time" is how many of the events the ledger had acknowledged when the load ended; "disturbed" what other processes took of
the measured core.

${tables(rows, candidates, true)}

## Goals

${goalLines(rows)
  .map((line) => `- ${line}`)
  .join('\n')}

## Conditions

${conditionLines(conditions)
  .map((line) => `- ${line}`)
  .join('\n')}
`
}
