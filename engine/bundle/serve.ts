import { readFile } from 'node:fs/promises'
import { createServer, type RequestListener, type Server } from 'node:http'
import { join } from 'node:path'
import { sha256Hex } from './canonical.ts'

const PATH = /^\/bundles\/([a-z0-9][a-z0-9-]{0,62})\.tar\.gz$/

export interface BundleServerOptions {
  /** The bundle of that name (`[a-z0-9-]`), or null when there is none. */
  getBundle: (name: string) => Promise<Buffer | null>
}

/**
 * Serves `/bundles/NAME.tar.gz` with an ETag, as OPA's bundle API has it; `If-None-Match` is answered by 304. Bundles are
 * signed: no authentication. The server is returned without listening.
 */
export function createBundleServer(options: BundleServerOptions): Server {
  return createServer({ requestTimeout: 30_000, headersTimeout: 10_000 }, bundleHandler(options))
}

/** The same as a request listener. */
export function bundleHandler({ getBundle }: BundleServerOptions): RequestListener {
  return (request, response) => {
    const end = (status: number, headers: Record<string, string | number> = {}, body?: Buffer): void => {
      response.writeHead(status, { 'X-Content-Type-Options': 'nosniff', ...headers })
      response.end(request.method === 'HEAD' ? undefined : body)
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') return end(405, { Allow: 'GET, HEAD' })
    const name = PATH.exec(request.url?.split('?', 1)[0] ?? '')?.[1]
    if (name === undefined) return end(404)
    const answer = (bundle: Buffer | null): void => {
      if (bundle === null) return end(404)
      const etag = `"${sha256Hex(bundle)}"`
      const caching = { ETag: etag, 'Cache-Control': 'no-cache' }
      if (matches(request.headers['if-none-match'], etag)) return end(304, caching)
      end(200, { ...caching, 'Content-Type': 'application/gzip', 'Content-Length': bundle.length }, bundle)
    }
    getBundle(name).then(answer, () => end(503))
  }
}

/** Bundles as `NAME.tar.gz` files of a folder. */
export function bundlesOfDirectory(directory: string): BundleServerOptions['getBundle'] {
  return async (name) => {
    try {
      return await readFile(join(directory, `${name}.tar.gz`))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw error
    }
  }
}

/** RFC 9110, 13.1.2: weak comparison; our tags hold no comma. */
function matches(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false
  return header.split(',').some((item) => item.trim() === '*' || item.trim().replace(/^W\//, '') === etag)
}
