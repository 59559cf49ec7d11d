/** Below these a proxy serves the stamps of its answers. */
const POINTERS = ['/.well-known/signet/stamps/', '/.well-known/signet/requests/']
/** A target and its parameters, up to the next comma outside of quotes. */
const LINK = /<([^<>]*)>((?:[^",<]|"(?:[^"\\]|\\.)*")*)/g
const PARAMETER = /; *([^\s=;,"]+) *= *(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))/g

/**
 * The link to a stamp among those of a `Link` header (RFC 8288): below the reserved prefix. Of several the last that describes the
 * answer and is of its origin, since the proxy adds its own behind those of the service; else the last that describes it; else the last.
 */
export function stampLink(value: string | null, base: URL): URL | null {
  const links = [...(value ?? '').matchAll(LINK)].flatMap(([, target = '', parameters = '']) => {
    const url = URL.parse(target, base.href)
    if (url === null || !POINTERS.some((pointer) => url.pathname.includes(pointer))) return []
    const [, , quoted, token] =
      [...parameters.matchAll(PARAMETER)].find(([, name]) => name?.toLowerCase() === 'rel') ?? []
    const describes = (quoted ?? token ?? '').toLowerCase().split(' ').includes('describedby')
    return [{ url, rank: describes ? (url.origin === base.origin ? 2 : 1) : 0 }]
  })
  const best = Math.max(...links.map(({ rank }) => rank))
  return links.findLast(({ rank }) => rank === best)?.url ?? null
}
