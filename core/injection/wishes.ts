import { RULE_MODES, type RuleMode } from '../policy/manifest.ts'
import { isRequired } from './eligibility.ts'
import { ANNOTATIONS, CAPTURES, type Capture } from './names.ts'
import type { PodObject } from './pod.ts'
import type { InjectionSettings } from './settings.ts'

/** What the pod's annotations came to, after what they may not do was left out. */
export type Wishes = {
  readonly tenant: string
  readonly producerId: string
  readonly mode: RuleMode
  readonly capture: Capture
  /** As written: a port's name or number. */
  readonly port: string | null
  readonly warnings: readonly string[]
}

/** After `NAMESPACE/`, as `core/identity/namespace-map.ts` has it. */
const PRODUCER_REST = /^[\x21-\x7e]{1,253}$/

/** Reads the annotations. They narrow and tighten, and never widen: what would is left out, with a warning. */
export function readWishes(pod: PodObject, { template, namespace }: InjectionSettings): Wishes {
  const annotations = pod.metadata?.annotations ?? {}
  const warnings: string[] = []
  const ignored = (name: string, why: string): void => {
    warnings.push(`annotation ${name} is ignored: ${why}`)
  }

  let tenant = namespace.tenant
  const askedTenant = annotations[ANNOTATIONS.tenant]
  if (askedTenant !== undefined && askedTenant !== tenant) {
    if (namespace.tenants.includes(askedTenant)) tenant = askedTenant
    else
      ignored(
        ANNOTATIONS.tenant,
        `namespace ${namespace.name} may speak for ${[...new Set([namespace.tenant, ...namespace.tenants])].join(', ')} only`,
      )
  }

  // As the API server reads them: an empty name is none.
  let producerId = `${namespace.name}/${pod.spec.serviceAccountName || pod.spec.serviceAccount || 'default'}`
  const askedProducer = annotations[ANNOTATIONS.producerId]
  if (askedProducer !== undefined && askedProducer !== producerId) {
    if (!askedProducer.startsWith(`${namespace.name}/`))
      ignored(ANNOTATIONS.producerId, `a producer of this namespace begins with ${namespace.name}/`)
    else if (!PRODUCER_REST.test(askedProducer.slice(namespace.name.length + 1)))
      ignored(ANNOTATIONS.producerId, `after ${namespace.name}/ come 1 to 253 visible ASCII characters`)
    else producerId = askedProducer
  }

  const platformMode = template.mode ?? 'enforce'
  let mode: RuleMode = platformMode
  const askedMode = annotations[ANNOTATIONS.mode]
  if (askedMode !== undefined) {
    const rank = RULE_MODES.findIndex((each) => each === askedMode)
    if (rank === -1) ignored(ANNOTATIONS.mode, `it must be one of ${RULE_MODES.join(', ')}`)
    else if (rank < RULE_MODES.indexOf(platformMode))
      ignored(ANNOTATIONS.mode, `the platform's mode is ${platformMode}, and a pod may only be stricter`)
    else mode = RULE_MODES[rank] ?? mode
  }

  const least = isRequired(namespace) ? 'redirect' : (template.capture ?? 'named-port')
  let capture: Capture = least
  const askedCapture = annotations[ANNOTATIONS.capture]
  if (askedCapture !== undefined) {
    const asked = CAPTURES.find((each) => each === askedCapture)
    if (asked === undefined) ignored(ANNOTATIONS.capture, `it must be one of ${CAPTURES.join(', ')}`)
    else if (asked === 'named-port' && least === 'redirect')
      ignored(ANNOTATIONS.capture, 'redirect is what this namespace has, and a pod may only be stricter')
    else capture = asked
  }
  return { tenant, producerId, mode, capture, port: annotations[ANNOTATIONS.port] ?? null, warnings }
}
