import { SignetError } from '#core/error/signet-error.ts'
import type { NamespaceMap } from '#core/identity/namespace-map.ts'
import { injectPod } from '#core/injection/inject.ts'
import { LABELS } from '#core/injection/names.ts'
import { readPod } from '#core/injection/pod.ts'
import { aroundTheProxy, type ServiceView } from '#core/injection/services.ts'
import { namespaceFacts, type InjectionTemplate } from '#core/injection/settings.ts'
import type { AdmissionRequest, Verdict } from './review.ts'

/** Why the API server sent the pod: which of the webhooks of `charts/signet/templates/webhooks.yaml` matched. */
export type Asked = 'required' | 'namespaces' | 'pods'
export type InjectionResult = 'injected' | 'unchanged' | 'skipped' | 'refused' | 'failed'

export type PodReviewDeps = {
  /** What injected pods get; null while it is not known. */
  readonly injection: () => InjectionTemplate | null
  readonly namespaceMap: () => NamespaceMap
  /** Labels of a namespace; undefined where it is not known (yet). */
  readonly namespaceLabels: (name: string) => Readonly<Record<string, string>> | undefined
  /** Services of a namespace, where they are known: for a warning of those that lead around the proxy. */
  readonly services?: (namespace: string) => Iterable<ServiceView>
}

/**
 * Injects a pod that is about to be made. It never refuses one: what cannot be injected passes with a warning, and where Signet is
 * required the fence keeps it out, as it does when nobody answers here at all.
 */
export function reviewPod(
  request: AdmissionRequest,
  asked: Asked | null,
  deps: PodReviewDeps,
): { verdict: Verdict; result: InjectionResult } {
  if (request.operation !== 'CREATE' || request.namespace === undefined)
    return { verdict: { allowed: true }, result: 'skipped' }
  const template = deps.injection()
  if (template === null) return passed('the platform has not said yet what is injected')
  try {
    const name = request.namespace
    const namespace = namespaceFacts(deps.namespaceMap(), {
      name,
      labels: { ...deps.namespaceLabels(name), ...labelsOf(asked) },
    })
    const { patch, warnings, eligibility, pod } = injectPod(readPod(request.object), { template, namespace })
    const around =
      eligibility.verdict === 'inject' && deps.services !== undefined ? aroundTheProxy(pod, deps.services(name)) : []
    const result =
      eligibility.verdict === 'inject'
        ? patch.length === 0
          ? 'unchanged'
          : 'injected'
        : eligibility.verdict === 'refuse'
          ? 'refused'
          : 'skipped'
    return {
      verdict: {
        allowed: true,
        patch,
        warnings: [...warnings, ...around].map((warning) => `signet: ${warning}`),
        auditAnnotations: { injection: result },
      },
      result,
    }
  } catch (error) {
    if (!(error instanceof SignetError)) throw error
    return passed(error.message)
  }
}

function passed(why: string): { verdict: Verdict; result: InjectionResult } {
  return {
    verdict: { allowed: true, warnings: [`signet: not injected: ${why}`], auditAnnotations: { injection: 'failed' } },
    result: 'failed',
  }
}

/** The API server has looked at the namespace; what is known here of it may be older. */
function labelsOf(asked: Asked | null): Record<string, string> {
  if (asked === 'required') return { [LABELS.required]: 'true' }
  return asked === 'namespaces' ? { [LABELS.inject]: 'enabled' } : {}
}
