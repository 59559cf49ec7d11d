/** Lower-case `type/subtype` of a Content-Type value, without parameters; empty where there is none, or more than one (RFC 9110 §8.3). */
export function mediaTypeOf(contentType: string | string[] | undefined): string {
  if (typeof contentType !== 'string') return ''
  const end = contentType.indexOf(';')
  return (end === -1 ? contentType : contentType.slice(0, end)).trim().toLowerCase().slice(0, 255)
}

/** `application/json`, `text/json` and every `+json` structured syntax suffix (RFC 6839). */
export function isJson(mediaType: string): boolean {
  return mediaType === 'application/json' || mediaType.endsWith('+json') || mediaType === 'text/json'
}

/** Media types that have no end to wait for. */
export function isEndless(mediaType: string): boolean {
  return mediaType === 'text/event-stream' || mediaType === 'multipart/x-mixed-replace'
}
