import type { BlockList } from 'node:net'
import { request } from 'undici'
import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject } from '#core/json/value.ts'
import { createGuardedAgent, isForbidden, type Resolve } from '../connectors/guarded-agent.ts'

/** How an endpoint answered, as an `api_response` event has it. `fields`: names of the top level, of an array those of its objects; sorted. */
export type Observation = { readonly status: number; readonly fields: readonly string[] }

export type EndpointObserver = {
  /** One GET, without credentials; redirects are not followed. @throws SignetError CONNECTOR_FAILED without anything of the answer */
  observe(tenant: string, url: string): Promise<Observation>
  close(): Promise<void>
}

export type ObserverOptions = {
  /** By tenant: where its endpoints may be. */
  readonly origins: ReadonlyMap<string, ReadonlySet<string>>
  /** Networks that are reachable although they are not public. */
  readonly allowed: BlockList
  /** For one look, from connecting to the end of the answer. */
  readonly timeoutMs: number
  readonly resolve?: Resolve
}

const MAX_BYTES = 1024 * 1024
const MAX_ELEMENTS = 100
const MAX_FIELDS = 1_000
const MAX_FIELD = 200

export function createEndpointObserver({ origins, allowed, timeoutMs, resolve }: ObserverOptions): EndpointObserver {
  const { agent, refusalOf } = createGuardedAgent({ allowed, timeoutMs, connections: 4, resolve })

  return {
    async observe(tenant, url) {
      const refusal = refusalOf(url)
      if (refusal !== null) throw failed(refusal)
      if (origins.get(tenant)?.has(new URL(url).origin) !== true)
        throw failed('its origin is not one that may be looked at (SIGNET_GOVERNANCE_OBSERVE_ORIGINS)')
      try {
        const { statusCode, body, headers } = await request(url, {
          dispatcher: agent,
          headers: { accept: 'application/json', 'user-agent': 'signet-governance' },
          signal: AbortSignal.timeout(timeoutMs),
        })
        const chunks: Buffer[] = []
        let length = 0
        for await (const chunk of body as AsyncIterable<Buffer>) {
          length += chunk.length
          if (length > MAX_BYTES) throw failed('it answered with too much')
          chunks.push(chunk)
        }
        const isJson = /json/.test(String(headers['content-type'] ?? ''))
        return { status: statusCode, fields: isJson ? fieldsOf(Buffer.concat(chunks).toString('utf8')) : [] }
      } catch (cause) {
        if (cause instanceof SignetError) throw cause
        if (isForbidden(cause)) throw failed('its name resolves to an address that is not public')
        throw failed('it does not answer in time, or cannot be reached', cause)
      }
    },
    close: () => agent.destroy(),
  }
}

function failed(why: string, cause?: unknown): SignetError {
  return new SignetError('CONNECTOR_FAILED', `the endpoint cannot be looked at: ${why}`, { cause })
}

/** @throws SignetError CONNECTOR_FAILED: it says that it is JSON, and is none, or has more fields than a contract can */
function fieldsOf(text: string): string[] {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw failed('what it calls JSON is none', cause)
  }
  const objects = (Array.isArray(value) ? value.slice(0, MAX_ELEMENTS) : [value]).filter(
    (one): one is JsonObject => typeof one === 'object' && one !== null && !Array.isArray(one),
  )
  const names = [...new Set(objects.flatMap((one) => Object.keys(one)))]
  if (names.length > MAX_FIELDS || names.some((name) => name.length > MAX_FIELD || /[\0\ud800-\udfff]/.test(name)))
    throw failed('its fields are more, or longer, than a contract can have')
  return names.sort()
}
