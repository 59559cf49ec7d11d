import { describe, expect, it } from 'vitest'
import { createKubernetesApi, reviewedPod } from './api.ts'
import { kubernetesApiOptions } from './variables.ts'

const STATUS = {
  authenticated: true,
  audiences: ['signet-ledger'],
  user: {
    username: 'system:serviceaccount:reports:api',
    extra: {
      'authentication.kubernetes.io/pod-name': ['api-1'],
      'authentication.kubernetes.io/pod-uid': ['u-1'],
    },
  },
}
const user = (change: object) => ({ ...STATUS, user: { ...STATUS.user, ...change } })

describe('reviewedPod', () => {
  it.each([
    {
      what: 'a pod',
      status: STATUS,
      want: { namespace: 'reports', serviceAccount: 'api', pod: { name: 'api-1', uid: 'u-1' } },
    },
    {
      what: 'no pod',
      status: user({ extra: undefined }),
      want: { namespace: 'reports', serviceAccount: 'api', pod: null },
    },
    {
      what: 'half a pod',
      status: user({ extra: { 'authentication.kubernetes.io/pod-name': ['api-1'] } }),
      want: { namespace: 'reports', serviceAccount: 'api', pod: null },
    },
    {
      what: 'two pods',
      status: user({ extra: { ...STATUS.user.extra, 'authentication.kubernetes.io/pod-uid': ['a', 'b'] } }),
      want: { namespace: 'reports', serviceAccount: 'api', pod: null },
    },
    { what: 'not authenticated', status: { ...STATUS, authenticated: false }, want: null },
    { what: 'authenticated, in another form', status: { ...STATUS, authenticated: 'true' }, want: null },
    { what: 'another audience', status: { ...STATUS, audiences: ['signet-bundles'] }, want: null },
    { what: 'a server that knows no audiences', status: { ...STATUS, audiences: undefined }, want: null },
    { what: 'a person', status: user({ username: 'admin' }), want: null },
    { what: 'a node', status: user({ username: 'system:node:reports:api' }), want: null },
    { what: 'a longer name', status: user({ username: 'system:serviceaccount:reports:api:x' }), want: null },
    { what: 'an empty name', status: user({ username: 'system:serviceaccount::api' }), want: null },
    { what: 'nothing', status: undefined, want: null },
  ])('$what', ({ status, want }) => expect(reviewedPod({ status }, 'signet-ledger')).toEqual(want))
})

describe('kubernetesApiOptions', () => {
  const values = { SIGNET_KUBERNETES_CA: '/ca', SIGNET_KUBERNETES_TOKEN_FILE: '/token' }
  it.each([
    { more: { KUBERNETES_SERVICE_HOST: '10.0.0.1', KUBERNETES_SERVICE_PORT: 6443 }, want: 'https://10.0.0.1:6443' },
    { more: { KUBERNETES_SERVICE_HOST: 'fd00::1' }, want: 'https://[fd00::1]:443' },
    {
      more: { KUBERNETES_SERVICE_HOST: '10.0.0.1', SIGNET_KUBERNETES_API: 'https://api.example/' },
      want: 'https://api.example',
    },
  ])('$want', ({ more, want }) => expect(kubernetesApiOptions({ ...values, ...more }).url).toBe(want))
  it('needs one outside of a pod', () => {
    expect(() => kubernetesApiOptions(values)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }))
  })
})

it('an API server that is not there, or files that are not, are no answer', async () => {
  const api = createKubernetesApi({ url: 'https://127.0.0.1:1', tokenFile: '/nowhere', caFile: '/nowhere' })
  await expect(api.reviewToken('a.b.c', 'x')).rejects.toMatchObject({ code: 'KUBERNETES_UNAVAILABLE' })
  await api.close()
})
