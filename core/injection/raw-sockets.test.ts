import { describe, expect, it } from 'vitest'
import { container, pod, requiredSettings, settings } from './injection.fixture.ts'
import { injectPod } from './inject.ts'
import type { Container } from './pod.ts'
import { dropRawSockets, restoreRawSockets } from './raw-sockets.ts'

const withContext = (securityContext: object): Container => container({ securityContext })

describe('NET_RAW', () => {
  it.each<{ what: string; given: Container; wantDrop: string[] }>([
    { what: 'without a security context', given: container(), wantDrop: ['NET_RAW'] },
    { what: 'with an empty one', given: withContext({}), wantDrop: ['NET_RAW'] },
    { what: 'with a user', given: withContext({ runAsUser: 1 }), wantDrop: ['NET_RAW'] },
    { what: 'with no capabilities', given: withContext({ capabilities: {} }), wantDrop: ['NET_RAW'] },
    { what: 'with an added one', given: withContext({ capabilities: { add: ['CHOWN'] } }), wantDrop: ['NET_RAW'] },
    { what: 'with none dropped', given: withContext({ capabilities: { drop: [] } }), wantDrop: ['NET_RAW'] },
    { what: 'with another', given: withContext({ capabilities: { drop: ['KILL'] } }), wantDrop: ['KILL', 'NET_RAW'] },
  ])('$what is dropped, and taken back without a trace', ({ given, wantDrop }) => {
    const { container: changed, added } = dropRawSockets(given)
    expect(changed.securityContext?.capabilities?.drop).toEqual(wantDrop)
    expect(added === null ? null : restoreRawSockets(changed, added)).toEqual(given)
  })

  it.each(['drop', 'add'])('stays as it is where it is in %s already', (list) => {
    for (const name of ['ALL', 'NET_RAW']) {
      const given = withContext({ capabilities: { [list]: [name] } })
      expect(dropRawSockets(given)).toEqual({ container: given, added: null })
    }
  })

  it('takes back no more than is there: others may have changed the container since', () => {
    expect(restoreRawSockets(container(), 'securityContext')).toEqual(container())
    const changed = withContext({ runAsUser: 7, capabilities: { drop: ['NET_RAW'], add: ['CHOWN'] } })
    expect(restoreRawSockets(changed, 'securityContext')).toEqual(
      withContext({ runAsUser: 7, capabilities: { add: ['CHOWN'] } }),
    )
  })

  it('is dropped where Signet is required alone, from all but a mesh’s containers', () => {
    const given = pod({
      spec: {
        containers: [container({ name: 'constructor' }), { name: 'istio-proxy', image: 'x' }],
        initContainers: [{ name: 'first', image: 'x' }],
      },
    })
    const { pod: injected } = injectPod(given, requiredSettings())
    const dropped = [...injected.spec.containers, ...(injected.spec.initContainers ?? [])]
      .filter(({ securityContext }) => securityContext?.capabilities?.drop?.join() === 'NET_RAW')
      .map(({ name }) => name)
    expect(dropped).toEqual(['constructor', 'first'])
    expect(injectPod(injected, requiredSettings()).patch).toEqual([])
    const { pod: free } = injectPod(given, settings())
    expect(free.spec.containers.some(({ securityContext }) => securityContext !== undefined)).toBe(false)
  })
})
