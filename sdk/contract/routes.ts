import type { FastifyInstance } from 'fastify'
import { verifiedFetch, type VerifiedFetchOptions } from '../stamp/verified-fetch.ts'
import { ContractError, faultOf, type ContractFault } from './faults.ts'

/** A request that a route answers. */
export type Sample = {
  /** Path and query, `/reports/7`. */
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  /** Any status where it is left out: errors are stamped too. */
  readonly status?: number
}
/** Samples of a route, or why it is not for clients: what is behind it is never reached through a proxy. */
export type RouteContract = readonly [Sample, ...Sample[]] | { readonly exempt: string }

export type RoutesContract = {
  /** Where the proxy in front of the service listens. */
  readonly url: string
  readonly verify: VerifiedFetchOptions
  /** All routes of the service, `GET /reports/:id`: of `listRoutes`, or by hand. */
  readonly routes: readonly string[]
  readonly samples: Readonly<Record<string, RouteContract>>
}

/** The routes of a fastify application, filled in as they are added: call it before. Without those for HEAD that fastify adds to each GET. */
export function listRoutes(app: FastifyInstance): readonly string[] {
  const routes: string[] = []
  app.addHook('onRoute', ({ method, url }) => {
    for (const each of [method].flat()) {
      const route = `${each} ${url}`
      if (each !== 'HEAD' && !routes.includes(route)) routes.push(route)
    }
  })
  return routes
}

/**
 * Asks every route of a service through its proxy, and verifies each answer. A route without a sample fails, so that none is forgotten; so
 * does a sample of a route that is not there any more. Gives how many answers were verified.
 * @throws ContractError naming everything that is wrong
 */
export async function requireStampedRoutes({ url, verify, routes, samples }: RoutesContract): Promise<number> {
  const ask = verifiedFetch(verify)
  const faults: ContractFault[] = []
  let verified = 0
  for (const route of routes) {
    const contract = Object.hasOwn(samples, route) ? samples[route] : undefined
    if (contract === undefined)
      faults.push({ where: route, code: 'NO_SAMPLE', detail: 'no sample says how to ask for it' })
    if (contract === undefined || 'exempt' in contract) continue
    const method = route.slice(0, route.indexOf(' '))
    for (const sample of contract) {
      const where = `${route} (${sample.path})`
      try {
        faults.push(...(await wrongStatus(await ask(new URL(sample.path, url), initOf(method, sample)), where, sample)))
        verified += 1
      } catch (error) {
        faults.push(faultOf(where, error))
      }
    }
  }
  const gone = Object.keys(samples).filter((route) => !routes.includes(route))
  faults.push(...gone.map((where) => ({ where, code: 'NO_ROUTE', detail: 'the service has no such route' })))
  if (faults.length > 0) throw new ContractError(faults)
  return verified
}

function initOf(method: string, { headers, body }: Sample): RequestInit {
  return { method, headers: { ...headers }, ...(body === undefined ? {} : { body }) }
}

async function wrongStatus(answer: Response, where: string, { status }: Sample): Promise<ContractFault[]> {
  await answer.body?.cancel()
  if (status === undefined || answer.status === status) return []
  return [{ where, code: 'OTHER_STATUS', detail: `it answered ${answer.status}, expected ${status}` }]
}
