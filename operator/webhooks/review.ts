import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { firstFault } from '#core/error/schema-fault.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { parseStrict } from '#core/json/strict.ts'
import type { PatchOperation } from '#core/injection/patch.ts'

const Name = Type.String({ maxLength: 253 })

/** https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#request, as far as it is read here. */
const Review = Type.Object({
  apiVersion: Type.Literal('admission.k8s.io/v1'),
  kind: Type.Literal('AdmissionReview'),
  request: Type.Object({
    uid: Type.String({ minLength: 1, maxLength: 128, pattern: '^[!-~]+$' }),
    resource: Type.Object({ group: Name, version: Name, resource: Name }),
    operation: Type.Enum(['CREATE', 'UPDATE', 'DELETE', 'CONNECT']),
    namespace: Type.Optional(Type.String({ pattern: '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$' })),
    name: Type.Optional(Name),
    object: Type.Optional(Type.Unknown()),
    oldObject: Type.Optional(Type.Unknown()),
  }),
})
export type AdmissionRequest = Type.Static<typeof Review>['request']

const validator = Compile(Review)
/** Deeper than what any kind may be; the condition trees of rules are bounded on their own. */
const MAX_DEPTH = 128

/** What a webhook is asked for: `pods`, or a resource of `signet.dev`. */
export type ReviewedResource = { readonly group: string; readonly resource: string }

/**
 * Reads an AdmissionReview of one resource. Whoever sends it may be anybody: nothing of it is believed but its form.
 * @throws SignetError REQUEST_INVALID, JSON_INVALID
 */
export function readReview(body: Uint8Array, wanted: ReviewedResource): AdmissionRequest {
  const value: unknown = parseStrict(body, { maxDepth: MAX_DEPTH })
  if (!validator.Check(value)) {
    const { path, allowed } = firstFault(validator.Errors(value))
    throw new SignetError('REQUEST_INVALID', `not an AdmissionReview of admission.k8s.io/v1: ${path} ${allowed}`)
  }
  const { group, resource } = value.request.resource
  if (group !== wanted.group || resource !== wanted.resource) {
    throw new SignetError(
      'REQUEST_INVALID',
      `this webhook is for ${wanted.resource}${wanted.group === '' ? '' : `.${wanted.group}`} only`,
    )
  }
  return value.request
}

export type Verdict = {
  readonly allowed: boolean
  /** HTTP status of a refusal: 403, 413, 422, 429, 503. */
  readonly code?: number
  readonly message?: string
  readonly warnings?: readonly string[]
  readonly patch?: readonly PatchOperation[]
  /** In the API server's audit log, below the webhook's name. */
  readonly auditAnnotations?: Readonly<Record<string, string>>
}

/** Characters past which the API server cuts a warning, and all of them together. */
const MAX_WARNING = 256
const MAX_WARNINGS = 4_096
const MAX_MESSAGE = 8_192

/** The AdmissionReview that answers. */
export function reviewResponse(uid: string, verdict: Verdict): object {
  const { allowed, patch, message, code } = verdict
  const warnings = bounded(verdict.warnings ?? [])
  return {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    response: {
      uid,
      allowed,
      ...(patch === undefined || patch.length === 0
        ? {}
        : { patchType: 'JSONPatch', patch: Buffer.from(JSON.stringify(patch)).toString('base64') }),
      ...(allowed ? {} : { status: { code: code ?? 403, message: (message ?? 'refused').slice(0, MAX_MESSAGE) } }),
      ...(warnings.length === 0 ? {} : { warnings }),
      ...(verdict.auditAnnotations === undefined ? {} : { auditAnnotations: verdict.auditAnnotations }),
    },
  }
}

function bounded(warnings: readonly string[]): string[] {
  let left = MAX_WARNINGS
  const kept: string[] = []
  for (const warning of new Set(warnings)) {
    const text = warning.length > MAX_WARNING ? `${warning.slice(0, MAX_WARNING - 1)}…` : warning
    left -= text.length
    if (left < 0) break
    kept.push(text)
  }
  return kept
}
