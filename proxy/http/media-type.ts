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
