import { SignetError } from '#core/error/signet-error.ts'

/** A time of a body. @throws SignetError REQUEST_INVALID: a leap second, which is RFC 3339 but no time that can be kept */
export function parseTime(text: string, where: string): Date {
  const time = new Date(text)
  if (!Number.isNaN(time.getTime())) return time
  throw new SignetError('REQUEST_INVALID', `the body at ${where} is no time that can be kept`)
}
