import { readFile } from 'node:fs/promises'
import { parse } from 'yaml'
import { SignetError } from '#core/error/signet-error.ts'
import { checkNamespaceMap, EMPTY_NAMESPACE_MAP, type NamespaceMap } from '#core/identity/namespace-map.ts'
import { followFile } from '../process/followed-file.ts'
import { checkServiceAccountFile, NO_SERVICE_ACCOUNTS, type ServiceAccountFile } from './workload.ts'

export type FollowOptions = {
  /** The variable that names the file, for messages. */
  readonly variable: string
  /** Undefined: no file, the empty value for ever. */
  readonly path: string | undefined
  readonly signal: AbortSignal
  /** The file changed and cannot be used, or can be again after that. The former value stays meanwhile. */
  readonly onError: (error: unknown) => void
  readonly onChange?: () => void
  /** Default 1 s. */
  readonly pollMs?: number
}

const MAX_BYTES = 4 * 1024 * 1024

/**
 * The namespace map of a file (JSON or YAML), read now and anew when it changes. The function returned gives what holds.
 * @throws SignetError CONFIG_INVALID when it cannot be used now
 */
export function followNamespaceMap(options: FollowOptions): Promise<() => NamespaceMap> {
  return followPolicyFile(options, checkNamespaceMap, EMPTY_NAMESPACE_MAP)
}

/** The same for the file of service accounts. */
export function followServiceAccounts(options: FollowOptions): Promise<() => ServiceAccountFile> {
  return followPolicyFile(options, checkServiceAccountFile, NO_SERVICE_ACCOUNTS)
}

/** The same for another file: what `check` makes of its content, `empty` where there is none. */
export async function followPolicyFile<T>(
  options: FollowOptions,
  check: (value: unknown, source: string) => T,
  empty: T,
): Promise<() => T> {
  const { variable, path, signal, onError, onChange, pollMs = 1_000 } = options
  if (path === undefined) return () => empty
  const source = `${variable} (${path})`
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new SignetError('CONFIG_INVALID', `${source} cannot be read`, { cause })
  })
  let current = check(parseText(text, source), source)
  followFile({
    path,
    text,
    pollMs,
    signal,
    onError,
    apply(changed) {
      current = check(parseText(changed, source), source)
      onChange?.()
    },
  })
  return () => current
}

/** JSON is YAML. Aliases are bounded by the parser, names are unique, tags of other kinds give no objects of their own. */
function parseText(text: string, source: string): unknown {
  if (text.length > MAX_BYTES) throw new SignetError('CONFIG_INVALID', `${source} has more than ${MAX_BYTES} bytes`)
  try {
    return parse(text, { strict: true, uniqueKeys: true, maxAliasCount: 100, schema: 'core' })
  } catch (cause) {
    throw new SignetError(
      'CONFIG_INVALID',
      `${source} is neither JSON nor YAML: ${(cause as Error).message.slice(0, 200)}`,
    )
  }
}
