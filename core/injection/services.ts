import { PROXY_PORT } from './names.ts'
import { readOriginal } from './original.ts'
import type { PodObject } from './pod.ts'

/** What is read of a Service. */
export type ServiceView = {
  readonly name: string
  readonly selector: Readonly<Record<string, string>>
  readonly ports: readonly { readonly port: number; readonly targetPort: number | string }[]
}

/**
 * Services that lead to an injected pod around its proxy: capture `named-port` takes over the port's name, and a numeric targetPort
 * does not follow. Also the webhook's and doctor's word on it. Empty for a pod whose capture is `redirect`.
 */
export function aroundTheProxy(pod: PodObject, services: Iterable<ServiceView>): string[] {
  const taken = Object.entries(readOriginal(pod)?.portNames ?? {}).map(([key, name]) => ({
    port: Number(key.slice(key.lastIndexOf('/') + 1)),
    name,
  }))
  if (taken.length === 0) return []
  const warnings: string[] = []
  for (const { name, selector, ports } of services) {
    if (!selects(selector, pod.metadata?.labels ?? {})) continue
    for (const { port, targetPort } of ports) {
      const number = typeof targetPort === 'number' ? targetPort : Number.NaN
      const captured = taken.find((each) => each.port === number)
      if (captured !== undefined && number !== PROXY_PORT)
        warnings.push(
          `Service ${name} leads to port ${number} by number, around the proxy; let targetPort of port ${port} be ${captured.name}, or use signet.dev/capture: redirect`,
        )
    }
  }
  return warnings
}

/** A Service without a selector has its endpoints from somebody else. */
function selects(selector: Readonly<Record<string, string>>, labels: Readonly<Record<string, string>>): boolean {
  const entries = Object.entries(selector)
  return entries.length > 0 && entries.every(([key, value]) => labels[key] === value)
}
