import { SignetError } from '#core/error/signet-error.ts'

/**
 * What origin servers may take a path for. Servers differ: they decode once or twice, cut `;parameters`, resolve dot segments before or
 * after decoding, merge slashes, ignore case and trailing dots or spaces. A rule for `/customers` has to hold for all of them, so all
 * plausible readings are compared (RFC 3986 §6.2.2 names the equivalences). Segments, lower-case; the ordinary path has one reading,
 * the strangest 48.
 */
export function pathReadings(path: string): readonly (readonly string[])[] {
  if (!SPECIAL.test(path)) return [segmentsOf(path.toLowerCase())]
  let texts = new Set([path])
  for (let round = 0; round < 2; round += 1) {
    texts = new Set([...texts, ...[...texts].map(decodedOnce)])
  }
  const readings = new Map<string, readonly string[]>()
  for (const text of texts) {
    for (const separated of [text, text.replaceAll('\\', '/')]) {
      for (const cut of new Set([separated, separated.replace(/;[^/]*/g, '')])) {
        for (const segments of [segmentsOf(cut.toLowerCase()), resolved(segmentsOf(cut.toLowerCase()))]) {
          for (const trimmed of [segments, segments.map((segment) => segment.replace(/[. \0]+$/, '') || segment)]) {
            readings.set(trimmed.join('/'), trimmed)
          }
        }
      }
    }
  }
  return [...readings.values()]
}

/** Anything that makes servers read a path in different ways. */
const SPECIAL = /[%;\\ \0]|\/\/|\/\.|\.\/|\.$/

function decodedOnce(text: string): string {
  return text.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
}

function segmentsOf(path: string): string[] {
  return path.split('/').filter((segment) => segment !== '' && segment !== '.')
}

function resolved(segments: readonly string[]): string[] {
  const out: string[] = []
  for (const segment of segments) {
    if (segment === '..') out.pop()
    else out.push(segment)
  }
  return out
}

/**
 * Refuses targets that no origin form has, since a service behind us may cut where we do not: a fragment (RFC 9112 §3.2 has none), a
 * raw backslash, white space or control character, an encoded NUL.
 * @throws SignetError REQUEST_INVALID
 */
export function checkTarget(target: string): void {
  const fault = /[#\\]|[^\x21-\x7e\x80-\xff]|%00/.exec(target)?.[0]
  if (fault === undefined) return
  const named =
    fault === '#' ? 'a fragment («#»)' : fault === '\\' ? 'a backslash' : 'a control character or white space'
  throw new SignetError('REQUEST_INVALID', `The request target holds ${named}; send it percent-encoded, or without it`)
}
