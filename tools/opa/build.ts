import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { SignetError } from '#core/error/signet-error.ts'
import { ensureGoTool, isExecutable, type GoTool } from '#tools/go/build.ts'

const OPA: GoTool = {
  label: 'OPA',
  name: 'opa',
  cacheFolder: 'opa',
  moduleDirectory: dirname(fileURLToPath(import.meta.url)),
  package: 'github.com/open-policy-agent/opa',
  // `opa_wasm` adds OPA's own (pure Go) wasm runtime, so that OPA can check what our host computes.
  arguments: ['build', '-trimpath', '-tags', 'opa_wasm'],
  duration: '1 to 3 minutes',
  otherwise: 'set SIGNET_OPA=/path/to/opa',
  fail: (message, cause) => new SignetError('OPA_UNAVAILABLE', message, cause === undefined ? {} : { cause }),
}

export interface EnsureOpaOptions {
  /** Progress, one line a call, without line feed. Default: standard error. */
  onProgress?: (line: string) => void
  env?: NodeJS.ProcessEnv
}

/**
 * The path of the pinned OPA binary. `SIGNET_OPA` names one; else it is built from `tools/opa/go.mod` once into
 * `${SIGNET_CACHE_DIR:-${XDG_CACHE_HOME:-~/.cache}/signet}`, keyed by go.sum, Go version and platform. Processes that ask
 * at the same time wait for one build. Throws OPA_UNAVAILABLE.
 */
export async function ensureOpa(options: EnsureOpaOptions = {}): Promise<string> {
  const env = options.env ?? process.env
  const onProgress = options.onProgress ?? ((line) => process.stderr.write(`${line}\n`))
  if (env.SIGNET_OPA) {
    if (!(await isExecutable(env.SIGNET_OPA))) {
      throw new SignetError('OPA_UNAVAILABLE', `SIGNET_OPA names ${env.SIGNET_OPA}, which is not an executable file`)
    }
    return env.SIGNET_OPA
  }
  return ensureGoTool(OPA, { env, onProgress })
}

// `node tools/opa/build.ts` prints the path.
if (import.meta.main) process.stdout.write(`${await ensureOpa()}\n`)
