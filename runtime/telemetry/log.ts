import { pino, type DestinationStream, type Logger } from 'pino'

export type { Logger } from 'pino'

export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

const SECRET_NAMES = [
  'authorization',
  'Authorization',
  '["proxy-authorization"]',
  'cookie',
  'Cookie',
  '["set-cookie"]',
  'token',
  'access_token',
  'password',
  'secret',
  'private_key',
  '["x-api-key"]',
]
/** At the top, one below and two below: `token`, `headers.cookie`, `req.headers.authorization`. */
const REDACTED_PATHS = SECRET_NAMES.flatMap((name) => {
  const below = name.startsWith('[') ? name : `.${name}`
  return [name, `*${below}`, `*.*${below}`]
})
/** Lines that a stalled reader may leave waiting in memory; past it lines are dropped, never the process. */
const MAX_PENDING_BYTES = 16 * 1024 * 1024

/**
 * A JSON logger, one object a line with `@timestamp`, `log.level`, `service.name`, `message` (ECS names). Credentials by their
 * usual names are replaced by `[redacted]`. Writes do not block the event loop. `destination` is for tests.
 */
export function createLogger(options: { name: string; level?: LogLevel; destination?: DestinationStream }): Logger {
  return pino(
    {
      level: options.level ?? 'info',
      base: { 'service.name': options.name, 'process.pid': process.pid },
      messageKey: 'message',
      errorKey: 'error',
      timestamp: () => `,"@timestamp":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ 'log.level': label }) },
      redact: { paths: REDACTED_PATHS, censor: '[redacted]' },
    },
    options.destination ?? pino.destination({ dest: 1, sync: false, maxLength: MAX_PENDING_BYTES }),
  )
}
