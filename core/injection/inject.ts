import { canonicalize } from '../canonical/jcs.ts'
import { planCapture, takeName } from './capture.ts'
import { decideEligibility, isRequired, type Eligibility } from './eligibility.ts'
import { isMeshContainer, meshExpected, meshIn, type Mesh } from './mesh.ts'
import { ADMIN_PORT, ANNOTATIONS, REDIRECT, SIDECAR } from './names.ts'
import { readOriginal, withoutInjection, type Original } from './original.ts'
import { patchBetween, type PatchOperation } from './patch.ts'
import type { Container, PodObject } from './pod.ts'
import { dropRawSockets, type Addition } from './raw-sockets.ts'
import { rewriteHandlers } from './probes.ts'
import { templateHash, type InjectionSettings } from './settings.ts'
import {
  gracePeriodSeconds,
  keepForeignParts,
  redirectContainer,
  sidecarContainer,
  sidecarVolumes,
  type SidecarPlan,
} from './sidecar.ts'
import { readWishes } from './wishes.ts'

export type Injection = {
  readonly pod: PodObject
  /** Turns the pod given into `pod`; empty where nothing is to do. */
  readonly patch: readonly PatchOperation[]
  /** For people, a sentence each. */
  readonly warnings: readonly string[]
  readonly eligibility: Eligibility
}

const MAX_WARNINGS = 16

/**
 * Puts the sidecar into a pod (or a pod template: an object with `metadata` and `spec`). Pure. An injected pod is taken back to what
 * it was and injected again, so that the same settings change nothing and others replace our parts alone. A pod that nobody asked
 * for, or that cannot be injected safely, comes back as it is; `eligibility` says which.
 */
export function injectPod(pod: PodObject, settings: InjectionSettings): Injection {
  const eligibility = decideEligibility(pod, settings.namespace)
  if (eligibility.verdict !== 'inject') {
    return { pod, patch: [], warnings: eligibility.verdict === 'refuse' ? [eligibility.reason] : [], eligibility }
  }
  const bare = withoutInjection(pod)
  const wishes = readWishes(bare, settings)
  const capture = planCapture(bare.spec, {
    capture: wishes.capture,
    asked: wishes.port,
    passthroughPorts: settings.namespace.passthroughPorts,
  })
  const grace = bare.spec.terminationGracePeriodSeconds ?? null
  const mesh = meshIn(bare.spec)

  const takenName = wishes.capture === 'named-port' ? capture.takenName : null
  const rewritten = rewriteHandlers([...bare.spec.containers, ...(bare.spec.initContainers ?? [])], {
    capture: wishes.capture,
    takenName,
    mesh,
    gracePeriodSeconds: gracePeriodSeconds(grace, settings.template),
    earlier: readOriginal(pod),
  })
  const named = takeName(rewritten.containers, takenName)
  const guests = isRequired(settings.namespace)
    ? dropAll(named.containers)
    : { containers: named.containers, added: {} }
  const plan: SidecarPlan = {
    settings,
    wishes,
    port: capture.port,
    takenName: capture.takenName,
    probes: rewritten.probes,
    mesh,
  }
  const original: Original = {
    version: 1,
    gracePeriodSeconds: grace,
    portNames: named.taken,
    handlers: rewritten.originals,
    ...(Object.keys(guests.added).length === 0 ? {} : { rawSockets: guests.added }),
  }
  const count = bare.spec.containers.length
  const injected: PodObject = {
    ...bare,
    metadata: {
      ...bare.metadata,
      annotations: {
        ...bare.metadata?.annotations,
        ...skipAnnotation(bare, settings),
        [ANNOTATIONS.injected]: templateHash(settings),
        [ANNOTATIONS.original]: canonicalize(original),
      },
    },
    spec: {
      ...bare.spec,
      containers: guests.containers.slice(0, count),
      initContainers: [
        ...(wishes.capture === 'redirect'
          ? [keepForeignParts(redirectContainer(plan), initContainer(pod, REDIRECT))]
          : []),
        keepForeignParts(sidecarContainer(plan), initContainer(pod, SIDECAR)),
        ...guests.containers.slice(count),
      ],
      volumes: withVolumes(bare, settings),
      terminationGracePeriodSeconds: gracePeriodSeconds(grace, settings.template),
    },
  }
  return {
    pod: injected,
    patch: patchBetween(pod, injected),
    warnings: [...wishes.warnings, ...capture.warnings, ...rewritten.warnings].slice(0, MAX_WARNINGS),
    eligibility,
  }
}

/** A mesh's containers are its injector's. */
function dropAll(containers: readonly Container[]): { containers: Container[]; added: Record<string, Addition> } {
  const added: [string, Addition][] = []
  const changed = containers.map((container) => {
    if (isMeshContainer(container)) return container
    const result = dropRawSockets(container)
    if (result.added !== null) added.push([container.name, result.added])
    return result.container
  })
  return { containers: changed, added: Object.fromEntries(added) }
}

function initContainer({ spec }: PodObject, wanted: string): Container | undefined {
  return spec.initContainers?.find(({ name }) => name === wanted)
}

/** Ours where they stand already, else at the end. */
function withVolumes({ spec }: PodObject, settings: InjectionSettings): { readonly name: string }[] {
  const ours = sidecarVolumes(settings)
  const before = spec.volumes ?? []
  const names = new Set(before.map(({ name }) => name))
  return [
    ...before.map((volume) => ours.find(({ name }) => name === volume.name) ?? volume),
    ...ours.filter(({ name }) => !names.has(name)),
  ]
}

/** The kubelet asks our admin port in the clear; a mesh that insists on TLS must let it. */
function skipAnnotation({ metadata, spec }: PodObject, { namespace }: InjectionSettings): Record<string, string> {
  const mesh: Mesh | null = meshExpected(spec, {
    pod: { ...metadata?.annotations, ...metadata?.labels },
    namespace: namespace.labels,
  })
  if (mesh === null) return {}
  const before = metadata?.annotations?.[mesh.skipInboundPorts] ?? ''
  const ports = before
    .split(',')
    .map((port) => port.trim())
    .filter((port) => port !== '')
  if (ports.includes(String(ADMIN_PORT))) return {}
  return { [mesh.skipInboundPorts]: [...ports, String(ADMIN_PORT)].join(',') }
}
