import { expect, it } from 'vitest'
import { createLogger } from './log.ts'

function capture(level: 'info' | 'warn' = 'info') {
  const lines: string[] = []
  const log = createLogger({
    name: 'signet-test',
    level,
    destination: { write: (line: string) => void lines.push(line) },
  })
  return { log, lines }
}

it('writes one JSON object a line with ECS names', () => {
  const { log, lines } = capture()
  log.info({ trace_id: 'abc' }, 'hello')
  expect(JSON.parse(lines[0] ?? '')).toMatchObject({
    'log.level': 'info',
    'service.name': 'signet-test',
    message: 'hello',
    trace_id: 'abc',
    '@timestamp': expect.stringMatching(/^\d{4}-.*Z$/),
  })
})

it('keeps credentials out, at the top and up to two levels below', () => {
  const { log, lines } = capture()
  const secret = 'hunter2'
  log.info({ token: secret, password: secret, authorization: secret }, 'top')
  log.info({ headers: { cookie: secret, authorization: secret, 'x-api-key': secret, 'set-cookie': secret } }, 'one')
  log.info({ req: { headers: { authorization: secret, cookie: secret, 'proxy-authorization': secret } } }, 'two')
  expect(lines).toHaveLength(3)
  for (const line of lines) {
    expect(line).toContain('[redacted]')
    expect(line).not.toContain(secret)
  }
})

it('leaves out what is below its level', () => {
  const { log, lines } = capture('warn')
  log.info('no')
  log.warn('yes')
  expect(lines).toHaveLength(1)
})
