/** `90d`, `7y`. A year is 366 days here, so that seven years are never short of seven years. */
export const DURATION_PATTERN = '^[1-9][0-9]{0,4}[dy]$'
export const DAYS_PER_YEAR = 366

/** Days of a duration that fits DURATION_PATTERN. */
export function durationDays(text: string): number {
  return Number(text.slice(0, -1)) * (text.endsWith('y') ? DAYS_PER_YEAR : 1)
}

/** The same in CEL, for the duration at `path`. */
export function celDays(path: string): string {
  return `int(${path}.substring(0, size(${path}) - 1)) * (${path}.endsWith('y') ? ${DAYS_PER_YEAR} : 1)`
}
