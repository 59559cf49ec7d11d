import { mediaTypeOf } from '#core/stamp/subject.ts'

export type ContentType = { readonly mediaType: string; readonly charset: string | undefined }

const known = new Map<string, ContentType>()
const MAX_KNOWN = 256
const MAX_KNOWN_LENGTH = 128

/** A Content-Type as `mediaTypeOf` and `charsetOf` read it. Services have few of them, which are remembered. */
export function contentTypeOf(value: string | undefined): ContentType {
  const text = value ?? ''
  const found = known.get(text)
  if (found !== undefined) return found
  const read = { mediaType: mediaTypeOf(value), charset: charsetOf(value) }
  // undici gives a list where the field was sent more than once.
  if (typeof text === 'string' && text.length <= MAX_KNOWN_LENGTH && known.size < MAX_KNOWN) known.set(text, read)
  return read
}

/** The charset parameter, lower-case; undefined where there is none. */
export function charsetOf(contentType: string | undefined): string | undefined {
  const value = /;\s*charset\s*=\s*"?([^\s;"]{0,64})/i.exec(contentType ?? '')?.[1]
  return value?.toLowerCase()
}

/** `application/json`, `text/json` and every `+json` structured syntax suffix (RFC 6839). */
export function isJson(mediaType: string): boolean {
  return mediaType === 'application/json' || mediaType.endsWith('+json') || mediaType === 'text/json'
}

/** Media types that have no end to wait for. */
export function isEndless(mediaType: string): boolean {
  return mediaType === 'text/event-stream' || mediaType === 'multipart/x-mixed-replace'
}
