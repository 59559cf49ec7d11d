import { request, type RequestOptions } from 'node:https'
import { KubeConfig } from '@kubernetes/client-node'
import { UsageError } from '../usage.ts'

/** Reads a cluster, with whatever rights the kubeconfig gives. */
export type ClusterApi = {
  /** Where it is, for messages. */
  readonly server: string
  /** Null where the API server says 404. @throws ApiRefusal for any other status, UsageError where it cannot be reached */
  get(path: string): Promise<Record<string, unknown> | null>
  /** All items of a list, page by page. Null where the server does not know the kind. @throws as `get` */
  list(path: string, take: (item: Record<string, unknown>) => void): Promise<boolean>
}

/** The API server's no. */
export class ApiRefusal extends Error {
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.name = 'ApiRefusal'
    this.status = status
  }
}

const PAGE = 500
const TIMEOUT_MS = 30_000
const MAX_BYTES = 256 * 1024 * 1024

/** @throws UsageError for a kubeconfig or context that cannot be used */
export function openCluster(options: {
  readonly kubeconfig?: string | undefined
  readonly context?: string | undefined
}): ClusterApi {
  const config = new KubeConfig()
  try {
    if (options.kubeconfig === undefined) config.loadFromDefault()
    else config.loadFromFile(options.kubeconfig)
  } catch (error) {
    throw new UsageError(`the kubeconfig cannot be used: ${error instanceof Error ? error.message : String(error)}`)
  }
  if (options.context !== undefined) {
    if (config.getContextObject(options.context) === null) {
      const known = config.getContexts().map(({ name }) => name)
      throw new UsageError(`the kubeconfig has no context ${options.context}; it has: ${known.join(', ')}`)
    }
    config.setCurrentContext(options.context)
  }
  const server = config.getCurrentCluster()?.server
  if (server === undefined || !URL.canParse(server)) throw new UsageError('the kubeconfig has no current cluster')
  const get = (path: string): Promise<Record<string, unknown> | null> => getJson(config, server, path)
  return {
    server,
    get,
    async list(path, take) {
      let more = ''
      do {
        const page = await get(`${path}${path.includes('?') ? '&' : '?'}limit=${PAGE}${more}`)
        if (page === null) return false
        for (const item of (page['items'] as Record<string, unknown>[] | undefined) ?? []) take(item)
        const next = (page['metadata'] as { continue?: string } | undefined)?.continue ?? ''
        more = next === '' ? '' : `&continue=${encodeURIComponent(next)}`
      } while (more !== '')
      return true
    },
  }
}

async function getJson(config: KubeConfig, server: string, path: string): Promise<Record<string, unknown> | null> {
  const options: RequestOptions = { headers: { accept: 'application/json' }, timeout: TIMEOUT_MS }
  // Client certificates, tokens and exec plugins of the kubeconfig.
  await config.applyToHTTPSOptions(options)
  const { status, text } = await fetchText(new URL(server.replace(/\/$/, '') + path), options).catch(
    (error: unknown) => {
      throw new UsageError(
        `the API server at ${server} does not answer: ${error instanceof Error ? error.message : String(error)}`,
      )
    },
  )
  if (status === 404) return null
  if (status !== 200) {
    throw new ApiRefusal(status, `${status} ${messageOf(text)}`.trim())
  }
  return JSON.parse(text) as Record<string, unknown>
}

/** Of a `metav1.Status`; empty for what is none. */
function messageOf(text: string): string {
  try {
    const { message } = JSON.parse(text) as { message?: unknown }
    return typeof message === 'string' ? message.replaceAll(/\s+/g, ' ').slice(0, 300) : ''
  } catch {
    return ''
  }
}

function fetchText(url: URL, options: RequestOptions): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const call = request(url, options, (response) => {
      const chunks: Buffer[] = []
      let bytes = 0
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        if (bytes > MAX_BYTES) call.destroy(new Error(`more than ${MAX_BYTES} bytes`))
        else chunks.push(chunk)
      })
      response.once('end', () =>
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }),
      )
      response.once('error', reject)
    })
    call.once('timeout', () => call.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)))
    call.once('error', reject)
    call.end()
  })
}
