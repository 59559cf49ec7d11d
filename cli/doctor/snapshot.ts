import type { NamespaceMap } from '#core/identity/namespace-map.ts'
import type { PodObject } from '#core/injection/pod.ts'
import type { InjectionTemplate } from '#core/injection/settings.ts'
import type { StatusCondition } from '#core/rule/status.ts'

/** What is looked at of a cluster. Everything that judges works on this alone. */
export type Snapshot = {
  readonly now: Date
  readonly operatorNamespace: string
  /** By name. */
  readonly namespaces: ReadonlyMap<string, Readonly<Record<string, string>>>
  readonly pods: readonly ObservedPod[]
  readonly services: readonly ObservedService[]
  readonly rules: readonly ObservedRule[]
  /** Null: could not be read, see `unchecked`. */
  readonly webhooks: readonly ObservedWebhook[] | null
  readonly trust: { readonly current: string; readonly previous: string | null } | null
  readonly certificates: readonly { readonly name: string; readonly pem: string }[]
  /** What pods are injected with, less the authority. Null: not there, or not readable. */
  readonly template: Omit<InjectionTemplate, 'trustCa'> | null
  readonly namespaceMap: NamespaceMap
  /** Revision in force by namespace. Null: could not be read. */
  readonly bundles: ReadonlyMap<string, string> | null
  /** What sidecars said last, by UID of their pod. */
  readonly reports: ReadonlyMap<string, ProxyReport>
  /** What could not be looked at, and why, a line each. */
  readonly unchecked: readonly string[]
}

export type ObservedPod = {
  readonly name: string
  readonly namespace: string
  readonly uid: string
  readonly pod: PodObject
  readonly owner: { readonly kind: string; readonly name: string } | null
  /** Running, Pending and so on; ended and ending pods are not here. */
  readonly phase: string
  /** Null without a sidecar, or before it has started. */
  readonly sidecarReady: boolean | null
}

export type ObservedService = {
  readonly name: string
  readonly namespace: string
  readonly selector: Readonly<Record<string, string>>
  readonly ports: readonly { readonly port: number; readonly targetPort: number | string }[]
}

export type ObservedRule = {
  readonly kind: string
  readonly name: string
  readonly namespace: string
  readonly generation: number
  readonly observedGeneration: number
  readonly conditions: readonly StatusCondition[]
}

export type ObservedWebhook = { readonly kind: string; readonly name: string; readonly caBundle: string }

export type ProxyReport = {
  readonly revision: string | null
  readonly code: string | null
  readonly message: string | null
}
