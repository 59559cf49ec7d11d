import Fastify from 'fastify'
import { afterAll, describe, expect, it } from 'vitest'
import { SignetError } from '#core/error/signet-error.ts'
import { answerFrameworkError, problemOf, useProblemResponses } from './problem.ts'

describe('problemOf', () => {
  it('says what a SignetError says', () => {
    const error = new SignetError('EVENT_ID_CONFLICT', 'event e1 is already there')
    expect(problemOf(error, { instance: '/x', traceId: 't', requestId: 'r' })).toEqual({
      type: 'https://signet.dev/problems/event-id-conflict',
      title: 'This event id is in the chain with other bytes',
      status: 409,
      detail: 'event e1 is already there',
      code: 'EVENT_ID_CONFLICT',
      instance: '/x',
      trace_id: 't',
      request_id: 'r',
    })
  })

  it.each([new Error('password=hunter2'), 'hunter2', null, { statusCode: 400, message: 'hunter2' }])(
    'keeps the message of anything else to itself',
    (error) => {
      const problem = problemOf(error)
      expect(problem).toMatchObject({ status: 500, code: 'INTERNAL' })
      expect(JSON.stringify(problem)).not.toContain('hunter2')
    },
  )
})

describe('useProblemResponses', () => {
  const app = Fastify({ bodyLimit: 64, frameworkErrors: answerFrameworkError })
  useProblemResponses(app)
  app.get('/conflict', () => {
    throw new SignetError('EVENT_ID_CONFLICT', 'no')
  })
  app.get('/login', () => {
    throw new SignetError('UNAUTHENTICATED', 'who are you?')
  })
  app.get('/defect', () => {
    throw new Error('hunter2')
  })
  app.get('/of/:one', () => ({}))
  app.post('/body', { schema: { body: { type: 'object', required: ['a'] } } }, () => ({}))
  afterAll(() => app.close())

  const cases: {
    name: string
    request: { method?: 'GET' | 'POST'; url: string; payload?: string }
    want: [number, string]
  }[] = [
    { name: 'a SignetError', request: { url: '/conflict' }, want: [409, 'EVENT_ID_CONFLICT'] },
    { name: 'no identity', request: { url: '/login' }, want: [401, 'UNAUTHENTICATED'] },
    { name: 'a defect', request: { url: '/defect' }, want: [500, 'INTERNAL'] },
    { name: 'an unknown route', request: { url: '/nowhere?token=hunter2' }, want: [404, 'NOT_FOUND'] },
    { name: 'a path that is none', request: { url: '/of/%zzhunter2' }, want: [400, 'REQUEST_INVALID'] },
    {
      name: 'a parameter past the limit',
      request: { url: `/of/hunter2${'x'.repeat(100)}` },
      want: [400, 'REQUEST_INVALID'],
    },
    {
      name: 'a body that is no JSON',
      request: { method: 'POST', url: '/body', payload: '{' },
      want: [400, 'REQUEST_INVALID'],
    },
    {
      name: 'a body of another shape',
      request: { method: 'POST', url: '/body', payload: '{}' },
      want: [400, 'REQUEST_INVALID'],
    },
    {
      name: 'a body past the limit',
      request: { method: 'POST', url: '/body', payload: `{"a":"${'x'.repeat(99)}"}` },
      want: [413, 'PAYLOAD_TOO_LARGE'],
    },
  ]
  it.each(cases)('$name', async ({ request, want: [status, code] }) => {
    const response = await app.inject({
      ...request,
      headers: request.payload ? { 'content-type': 'application/json' } : {},
    })
    expect(response.statusCode).toBe(status)
    expect(response.headers['content-type']).toBe('application/problem+json')
    expect(response.headers['cache-control']).toBe('no-store')
    expect(response.json()).toMatchObject({ status, code, request_id: expect.any(String) })
    expect(response.body).not.toContain('hunter2')
    expect(response.headers['www-authenticate']).toBe(status === 401 ? 'Bearer' : undefined)
  })
})
