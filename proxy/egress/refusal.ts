import { SignetError } from '#core/error/signet-error.ts'
import type { Violation } from '#core/policy/decision.ts'
import type { ExchangeContext } from '../exchange/context.ts'

/** What became of the request at the upstream: `none` was asked or done, `completed`, or nobody can tell. */
export type RequestEffect = 'none' | 'completed' | 'unknown'

export type Refusal = {
  readonly error: SignetError
  readonly violations: readonly Violation[]
  readonly upstreamStatus: number | null
  readonly requestEffect: RequestEffect
  readonly retryAfterSeconds: number | null
}

type Identity = Pick<ExchangeContext, 'requestId' | 'traceId' | 'target' | 'method'> & { accept: string | undefined }

/**
 * The answer that takes a refused one's place: RFC 9457, or HTML for whoever prefers it. Never holds a byte, header or trailer of
 * what was refused: it is made from the violations alone.
 */
export function refusalDocument(refusal: Refusal, identity: Identity): { headers: string[]; body: Buffer } {
  const { error } = refusal
  const problem = {
    type: `https://signet.dev/problems/${error.code.toLowerCase().replaceAll('_', '-')}`,
    title: error.title,
    status: error.status,
    detail: error.message,
    instance: identity.target.split('?', 1)[0],
    code: error.code,
    trace_id: identity.traceId,
    request_id: identity.requestId,
    violations: refusal.violations,
    upstream_status: refusal.upstreamStatus,
    request_effect: refusal.requestEffect,
  }
  const html = prefersHtml(identity.accept)
  const body = Buffer.from(html ? page(problem) : `${JSON.stringify(problem)}\n`)
  const headers = [
    'content-type',
    html ? 'text/html; charset=utf-8' : 'application/problem+json',
    'cache-control',
    'no-store',
    'content-length',
    String(body.length),
    'vary',
    'Accept',
    'x-content-type-options',
    'nosniff',
  ]
  if (html) headers.push('content-security-policy', "default-src 'none'; style-src 'unsafe-inline'")
  if (refusal.retryAfterSeconds !== null) headers.push('retry-after', String(refusal.retryAfterSeconds))
  return { headers, body }
}

/** HTML only where the client ranks it above JSON (RFC 9110 §12.5.1): browsers do, `curl` and fetch do not. */
export function prefersHtml(accept: string | undefined): boolean {
  if (accept === undefined) return false
  let html = 0
  let json = 0
  for (const range of accept.split(',', 64)) {
    const [type = '', ...parameters] = range.split(';')
    const name = type.trim().toLowerCase()
    const q = parameters
      .map((parameter) => /^\s*q=([01](?:\.\d{0,3})?)\s*$/i.exec(parameter)?.[1])
      .find((value) => value !== undefined)
    const weight = q === undefined ? 1 : Number(q)
    if (name === 'text/html' || name === 'application/xhtml+xml') html = Math.max(html, weight)
    if (name === 'application/json' || name === 'application/problem+json') json = Math.max(json, weight)
  }
  return html > json
}

function page(problem: {
  title: string
  status: number
  detail: string
  trace_id: string
  request_id: string
  violations: readonly Violation[]
}): string {
  const items = problem.violations
    .map(({ rule, severity, message, remediation }) => {
      const link =
        remediation.url !== undefined && remediation.url.startsWith('https://')
          ? ` <a href="${escapeHtml(remediation.url)}">How to fix it</a>`
          : ''
      return `<li><strong>${escapeHtml(rule)}</strong> (${severity}): ${escapeHtml(message)}<br>${escapeHtml(remediation.hint)}${link}</li>`
    })
    .join('\n')
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escapeHtml(problem.title)}</title>
<style>:root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:42rem;margin:10vh auto;padding:0 1rem}li{margin:.75rem 0}code{font-size:.9em}</style></head>
<body><h1>${escapeHtml(problem.title)}</h1><p>${escapeHtml(problem.detail)}</p>
${items === '' ? '' : `<ul>\n${items}\n</ul>`}
<p>Status ${problem.status}. When you ask for help, give the request id <code>${escapeHtml(problem.request_id)}</code> and the trace id <code>${problem.trace_id}</code>.</p>
</body></html>
`
}

function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}
