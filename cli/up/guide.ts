import path from 'node:path'
import type { StateFolder } from '../state.ts'
import type { Stack } from './stack.ts'

/** Where everything is, and commands that work as they stand. `cwd`: where they will be run. */
export function guide(stack: Stack, state: StateFolder, cwd: string, demo: boolean): string {
  const { external, internal, admin, ledger, governance } = stack.endpoints
  const file = (name: string): string => {
    const relative = path.relative(cwd, name)
    return relative.startsWith('..') ? name : relative
  }
  const token = `-H "Authorization: Bearer $(cat ${file(state.auditorToken)})"`
  const places = [
    ['proxy, external channel', external],
    ['proxy, internal channel', internal],
    [demo ? 'demo service behind it' : 'your service behind it', stack.upstream],
    ['proxy admin', `${admin}/readyz and ${admin}/metrics`],
    ['ledger', ledger],
    ['governance', `${governance} (its API: ${governance}/openapi.json)`],
    ['policy bundle', stack.bundleUrl],
    ['policy data', `${file(stack.policyData)} (edit it: it is read again when it changes)`],
    ['keys, tokens, data, logs', `${file(state.folder)}/`],
  ]
  const tries = demo ? demoTries(external, internal) : [['its answer, stamped', `curl -si ${external}/`]]
  const first = `-H "Authorization: Bearer $(cat ${file(state.adminToken)})"`
  tries.push(
    ['who may do what', `curl -s ${first} ${governance}/api/v1/session`],
    ['what the ledger recorded', `curl -s ${token} '${ledger}/api/audit/logs?limit=2'`],
    ['its hash chain, checked', `npx signet verify --ledger`],
  )
  return [
    '',
    'Signet is up. Ctrl-C stops everything; a second start keeps the data.',
    '',
    ...places.map(([what = '', where = '']) => `  ${what.padEnd(26)}${where}`),
    '',
    'Try, in another terminal:',
    ...tries.map(([what = '', command = '']) => `\n  # ${what}\n  ${command}`),
    '',
    '',
  ].join('\n')
}

function demoTries(external: string, internal: string): string[][] {
  return [
    ['public data: stamped', `curl -si ${external}/products`],
    ['personal data to the outside: refused, 422, with how to fix it', `curl -si ${external}/customers`],
    ['the same to the inside: stamped as confidential, GDPR', `curl -si ${internal}/customers`],
    ['a financial statement that was approved for the outside', `curl -s ${external}/reports/income-statement`],
    ['a CSV file: its stamp is beside it', `curl -s ${external}/exports/orders.csv.stamp.json`],
    ['an answer and its stamp, checked', `npx signet verify ${external}/products`],
  ]
}
