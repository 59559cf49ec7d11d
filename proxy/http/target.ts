import { LRUCache } from 'lru-cache'
import { SignetError } from '#core/error/signet-error.ts'
import { digestTarget, originForm, pathOf } from '../exchange/context.ts'
import { checkTarget, pathReadings } from './request-target.ts'

/** What follows from a request target alone. */
export type Target = {
  /** Origin form. */
  readonly target: string
  readonly path: string
  readonly digest: string
  /** For a path `NAME.stamp.json`, the target of NAME; else null. */
  readonly ofSidecar: string | null
}

/** Our own paths. */
export const RESERVED = '/.well-known/signet/'
const SIDECAR_SUFFIX = '.stamp.json'

const MAX_TARGETS = 4_096
/** Longer ones are read anew each time, so that entries bound memory. */
const MAX_KEPT_LENGTH = 512

/** Reads request targets; those seen last it knows. */
export class TargetReader {
  readonly #known = new LRUCache<string, Target>({ max: MAX_TARGETS })

  /** `url`: as received. Throws REQUEST_INVALID, or NOT_FOUND for our own names in another spelling. */
  read(url: string): Target {
    const known = this.#known.get(url)
    if (known !== undefined) return known
    const target = readTarget(url)
    if (url.length <= MAX_KEPT_LENGTH) this.#known.set(url, target)
    return target
  }
}

function readTarget(url: string): Target {
  const target = originForm(url)
  const path = pathOf(target)
  checkTarget(target)
  checkNames(path)
  const isSidecar = path.endsWith(SIDECAR_SUFFIX) && path.length > SIDECAR_SUFFIX.length + 1
  const ofSidecar = isSidecar ? path.slice(0, -SIDECAR_SUFFIX.length) + target.slice(path.length) : null
  return { target, path, digest: digestTarget(target), ofSidecar }
}

/**
 * Our own names, spelt so that the service may read them and our routing does not: nothing under the reserved prefix reaches the
 * service, and a file of the name of a stamp is never served as one.
 */
function checkNames(path: string): void {
  for (const segments of pathReadings(path)) {
    const isReserved = segments[0] === '.well-known' && segments[1] === 'signet'
    const isSidecar = (segments.at(-1) ?? '').endsWith(SIDECAR_SUFFIX) && !path.endsWith(SIDECAR_SUFFIX)
    if (isReserved || isSidecar)
      throw new SignetError('NOT_FOUND', 'This name is reserved for stamps, and is not spelt so')
  }
}
