import { readFile } from 'node:fs/promises'
import { parse } from 'yaml'
import { SignetError } from '#core/error/signet-error.ts'
import { parseInjectionTemplate, type InjectionTemplate } from '#core/injection/settings.ts'
import { followFile } from '#runtime/process/followed-file.ts'

const MAX_BYTES = 1024 * 1024
/** Checked in the place of the authority that is not known yet; it is never given to a pod. */
const ANY_CA = '-----BEGIN CERTIFICATE-----'

/**
 * What injected pods get: a file (JSON or YAML, docs/injection.md), read now and anew when it changes, and the platform's authority, which
 * the operator adds. The function returned gives what holds; null while the authority is not known, or without a file.
 * @throws SignetError CONFIG_INVALID when the file cannot be used now
 */
export async function followInjection(options: {
  readonly path: string | undefined
  readonly trustCa: () => string | null
  readonly signal: AbortSignal
  readonly onError: (error: unknown) => void
  readonly pollMs?: number
}): Promise<() => InjectionTemplate | null> {
  const { path, trustCa, signal, onError } = options
  if (path === undefined) return () => null
  const source = `SIGNET_INJECTION_SETTINGS (${path})`
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new SignetError('CONFIG_INVALID', `${source} cannot be read`, { cause })
  })
  let settings = readSettings(text, source)
  let made: { of: object; trustCa: string; template: InjectionTemplate } | null = null
  followFile({
    path,
    text,
    pollMs: options.pollMs ?? 1_000,
    signal,
    onError,
    apply(changed) {
      settings = readSettings(changed, source)
    },
  })
  return () => {
    const ca = trustCa()
    if (ca === null) return null
    if (made?.of !== settings || made.trustCa !== ca) {
      made = { of: settings, trustCa: ca, template: parseInjectionTemplate({ ...settings, trustCa: ca }) }
    }
    return made.template
  }
}

function readSettings(text: string, source: string): object {
  if (text.length > MAX_BYTES) throw new SignetError('CONFIG_INVALID', `${source} has more than ${MAX_BYTES} bytes`)
  let value: unknown
  try {
    value = parse(text, { strict: true, uniqueKeys: true, maxAliasCount: 100, schema: 'core' })
  } catch (cause) {
    const reason = (cause as Error).message.slice(0, 200)
    throw new SignetError('CONFIG_INVALID', `${source} is neither JSON nor YAML: ${reason}`, { cause })
  }
  if (typeof value !== 'object' || value === null) throw new SignetError('CONFIG_INVALID', `${source} is not an object`)
  const { trustCa: _, ...settings } = parseInjectionTemplate({ ...value, trustCa: ANY_CA })
  return settings
}
