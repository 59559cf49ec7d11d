import { describe, expect, it } from 'vitest'
import type { Identity } from '#runtime/identity/token.ts'
import type { NoticeEntry, Producer } from '../entry.ts'
import { checkDeniedFile, createDenyList, NOBODY_DENIED, type DeniedFile } from './denied.ts'

const pod = (producerId: string, namespace = 'shop', serviceAccount = 'web', tenant = 'acme'): Identity => ({
  name: `pod ${namespace}/web-1`,
  tenant,
  producerId,
  scopes: new Set(['audit:write']),
  workload: { namespace, serviceAccount, pod: { name: 'web-1', uid: 'u' } },
})
const token: Identity = { ...pod('shop/web'), name: 'proxy', workload: null }

function scene(denied: DeniedFile['denied']) {
  const clock = { ms: Date.parse('2026-11-25T09:00:00.000Z') }
  const file = { current: { version: 1, denied } as DeniedFile }
  const list = createDenyList(
    () => file.current,
    () => new Date(clock.ms),
  )
  const told: { producer: Producer; notice: NoticeEntry }[] = []
  list.onRefused((producer, notice) => told.push({ producer, notice }))
  const call = (identity: Identity): Promise<string> =>
    list
      .guard({ authenticate: async () => identity })
      .authenticate({ authorization: 'Bearer x' })
      .then(
        () => 'let in',
        (error: { code: string }) => error.code,
      )
  return { list, told, call, clock, file }
}

describe('a deny list', () => {
  const BY_NAME = [{ tenant: 'acme', producer_id: 'shop/web', reason: 'incident 12' }]
  it.each([
    { what: 'nobody', denied: [], identity: pod('shop/web'), want: 'let in' },
    { what: 'by name, a pod', denied: BY_NAME, identity: pod('shop/web'), want: 'PRODUCER_DENIED' },
    { what: 'by name, a token of the token file', denied: BY_NAME, identity: token, want: 'PRODUCER_DENIED' },
    {
      what: 'by name, in another tenant',
      denied: BY_NAME,
      identity: pod('shop/web', 'shop', 'web', 'globex'),
      want: 'let in',
    },
    { what: 'by name, another name', denied: BY_NAME, identity: pod('shop/other'), want: 'let in' },
    {
      what: 'a namespace, whatever name is claimed',
      denied: [{ namespace: 'shop' }],
      identity: pod('shop/other'),
      want: 'PRODUCER_DENIED',
    },
    {
      what: 'a namespace, and another',
      denied: [{ namespace: 'shop' }],
      identity: pod('bank/web', 'bank'),
      want: 'let in',
    },
    { what: 'a namespace, and a token', denied: [{ namespace: 'shop' }], identity: token, want: 'let in' },
    {
      what: 'a service account',
      denied: [{ namespace: 'shop', service_account: 'web' }],
      identity: pod('shop/x'),
      want: 'PRODUCER_DENIED',
    },
    {
      what: 'a service account, and another',
      denied: [{ namespace: 'shop', service_account: 'web' }],
      identity: pod('shop/x', 'shop', 'batch'),
      want: 'let in',
    },
  ])('of $what', async ({ denied, identity, want }) => expect(await scene(denied).call(identity)).toBe(want))

  it('holds from the moment that the file says so, and no longer', async () => {
    const { call, file } = scene([])
    expect(await call(token)).toBe('let in')
    file.current = { version: 1, denied: BY_NAME }
    expect(await call(token)).toBe('PRODUCER_DENIED')
    file.current = NOBODY_DENIED
    expect(await call(token)).toBe('let in')
  })

  it('tells of each once a minute, for the record, and not the caller why', async () => {
    const { call, told, clock, list } = scene(BY_NAME)
    for (let n = 0; n < 5; n += 1) await call(pod('shop/web'))
    await call(token)
    clock.ms += 60_000
    await call(token)
    expect(told.map(({ producer, notice }) => [producer, notice.context])).toEqual([
      [
        { tenant: 'acme', producerId: 'shop/web' },
        { producer_id: 'shop/web', namespace: 'shop', service_account: 'web', reason: 'incident 12' },
      ],
      [
        { tenant: 'acme', producerId: 'shop/web' },
        { producer_id: 'shop/web', reason: 'incident 12' },
      ],
      [
        { tenant: 'acme', producerId: 'shop/web' },
        { producer_id: 'shop/web', reason: 'incident 12' },
      ],
    ])
    expect(new Set(told.map(({ notice }) => JSON.stringify(notice.cause))).size).toBe(3)
    const refused = list.guard({ authenticate: async () => token }).authenticate({ authorization: 'x' })
    await expect(refused).rejects.not.toThrow('incident')
  })

  it('vouches for no stamp of who is denied by name', () => {
    const { list } = scene([...BY_NAME, { namespace: 'bank' }])
    expect(list.deniesStampsOf({ tenant: 'acme', producerId: 'shop/web' })).toBe(true)
    expect(list.deniesStampsOf({ tenant: 'globex', producerId: 'shop/web' })).toBe(false)
    expect(list.deniesStampsOf({ tenant: 'acme', producerId: 'bank/web' })).toBe(false)
  })
})

describe('its file', () => {
  it.each([
    { value: null },
    { value: { version: 2, denied: [] } },
    { value: { version: 1, denied: [{ tenant: 'acme' }] } },
    { value: { version: 1, denied: [{ service_account: 'web' }] } },
    { value: { version: 1, denied: [{ tenant: 'acme', producer_id: 'a', namespace: 'shop' }] } },
    { value: { version: 1, denied: [{ namespace: '' }] } },
  ])('is refused where it is none: $value', ({ value }) =>
    expect(() => checkDeniedFile(value, 'SIGNET_LEDGER_DENIED_PRODUCERS')).toThrow(
      'SIGNET_LEDGER_DENIED_PRODUCERS is not',
    ),
  )
})
