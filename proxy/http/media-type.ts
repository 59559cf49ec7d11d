/** Lower-case `type/subtype` of a Content-Type value, without parameters; empty where there is none, or more than one (RFC 9110 §8.3). */
export function mediaTypeOf(contentType: string | string[] | undefined): string {
  if (typeof contentType !== 'string') return ''
  const end = contentType.indexOf(';')
  const mediaType = (end === -1 ? contentType : contentType.slice(0, end)).trim().toLowerCase()
  return MEDIA_TYPE.test(mediaType) ? mediaType : ''
}

const MEDIA_TYPE = /^(?!unknown\/|application\/unknown$)[a-z0-9!#$&^_.+-]{1,127}\/[a-z0-9!#$&^_.+-]{1,127}$/

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
