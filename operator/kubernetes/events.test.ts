import { describe, expect, it } from 'vitest'
import { manualClock, settle } from '#operator/clock.fixture.ts'
import { createEventRecorder, type UserEvent } from './events.ts'
import { apiError, memoryApi } from './memory-api.fixture.ts'

const EVENTS = '/apis/events.k8s.io/v1/events'

function bench() {
  const [api, clock] = [memoryApi(), manualClock()]
  let id = 0
  let dropped = 0
  const recorder = createEventRecorder({
    client: api,
    clock,
    newId: () => `${++id}`,
    instance: 'pod-1',
    onDropped: () => (dropped += 1),
  })
  return {
    api,
    clock,
    recorder,
    dropped: () => dropped,
    sent: () => api.calls.filter((call) => call.startsWith('POST')).length,
  }
}

const event = (name: string, note = 'bad'): UserEvent => ({
  regarding: { apiVersion: 'signet.dev/v1alpha1', kind: 'ComplianceRule', namespace: 'team', name, uid: `uid-${name}` },
  type: 'Warning',
  reason: 'DoesNotCompile',
  action: 'Compile',
  note,
})

describe('events on users’ objects', () => {
  it('are what events.k8s.io/v1 asks for', async () => {
    const { api, recorder } = bench()
    recorder.record(event('a', 'x'.repeat(5_000)))
    await recorder.idle()
    const sent = api.get(EVENTS, 'team/a.1') as unknown as Record<string, string>
    expect(sent).toMatchObject({
      apiVersion: 'events.k8s.io/v1',
      reportingController: 'signet.dev/operator',
      reportingInstance: 'pod-1',
      eventTime: '2026-11-23T09:30:00.000000Z',
      type: 'Warning',
    })
    expect(sent['note']?.length).toBeLessThanOrEqual(1_024)
  })

  it('are told once in ten minutes', async () => {
    const { clock, recorder, sent } = bench()
    for (let times = 0; times < 20; times++) recorder.record(event('a'))
    recorder.record(event('a', 'something else'))
    await settle()
    expect(sent()).toBe(2)
    await clock.advance(600_000)
    recorder.record(event('a'))
    await settle()
    expect(sent()).toBe(3)
  })

  it('are no flood: so many at once, so many a second, the rest is dropped and counted', async () => {
    const { clock, recorder, sent, dropped } = bench()
    for (let index = 0; index < 1_000; index++) recorder.record(event(`r${index}`))
    await clock.advance(0)
    expect(sent()).toBeLessThanOrEqual(51)
    await clock.advance(10_000)
    expect(sent()).toBeLessThanOrEqual(110)
    await clock.advance(600_000)
    expect(sent() + dropped()).toBe(1_000)
    expect(dropped()).toBeGreaterThan(700)
  })

  it('that cannot be written are given up', async () => {
    const { api, recorder, dropped } = bench()
    api.before = () => {
      throw apiError(403)
    }
    recorder.record(event('a'))
    await recorder.idle()
    expect(dropped()).toBe(1)
  })
})
