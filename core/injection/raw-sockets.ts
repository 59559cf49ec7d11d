import type { Container } from './pod.ts'

/**
 * Container runtimes give NET_RAW to every container that does not drop it. With a packet socket a container writes into the proxy's
 * own connections, past the packet filter: where Signet is required, nobody has it.
 * https://github.com/containerd/containerd/blob/main/pkg/oci/spec.go (defaultUnixCaps)
 */
const CAPABILITY = 'NET_RAW'

/** What injection had to add so that NET_RAW is dropped: the entry alone, or what is around it as well. */
export const ADDITIONS = ['entry', 'drop', 'capabilities', 'securityContext'] as const
export type Addition = (typeof ADDITIONS)[number]

/** A container that asks for NET_RAW is left as it is: the fence says so. */
export function dropRawSockets(container: Container): { container: Container; added: Addition | null } {
  const { securityContext } = container
  const capabilities = securityContext?.capabilities
  const has = (list: readonly string[] | undefined): boolean => ['ALL', CAPABILITY].some((name) => list?.includes(name))
  if (has(capabilities?.drop) || has(capabilities?.add)) return { container, added: null }
  const added =
    securityContext === undefined
      ? 'securityContext'
      : capabilities === undefined
        ? 'capabilities'
        : capabilities.drop === undefined
          ? 'drop'
          : 'entry'
  const drop = [...(capabilities?.drop ?? []), CAPABILITY]
  return {
    container: { ...container, securityContext: { ...securityContext, capabilities: { ...capabilities, drop } } },
    added,
  }
}

/** The container as it was, as far as what was added is still there. */
export function restoreRawSockets(container: Container, added: Addition): Container {
  const { securityContext, ...rest } = container
  const { capabilities, ...otherSecurity } = securityContext ?? {}
  const { drop, ...otherCapabilities } = capabilities ?? {}
  if (drop?.includes(CAPABILITY) !== true) return container
  const left = drop.filter((name) => name !== CAPABILITY)
  const level = ADDITIONS.indexOf(added)
  if (left.length > 0 || level < 1)
    return { ...rest, securityContext: { ...otherSecurity, capabilities: { ...otherCapabilities, drop: left } } }
  if (Object.keys(otherCapabilities).length > 0 || level < 2)
    return { ...rest, securityContext: { ...otherSecurity, capabilities: otherCapabilities } }
  if (Object.keys(otherSecurity).length > 0 || level < 3) return { ...rest, securityContext: otherSecurity }
  return rest
}
