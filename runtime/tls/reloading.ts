import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Server as TlsServer } from 'node:tls'
import { SignetError } from '#core/error/signet-error.ts'

/** What a TLS server presents: PEM certificate chain (leaf first) and the PEM private key of the leaf. */
export type TlsPair = { readonly cert: string; readonly key: string }

export type TlsFiles = {
  readonly certFile: string
  readonly keyFile: string
  /** Milliseconds between two looks at the files. Default 1,000. */
  readonly pollMs?: number
  readonly signal: AbortSignal
  /** The files changed and cannot be used; the former pair stays. Called once for each such state of the files. */
  readonly onError?: (error: SignetError) => void
}

const DEFAULT_POLL_MS = 1_000

/**
 * Looks at two files and calls `onChange` when they hold another pair than `current` (by default what they hold now: read
 * that with `readTlsPair`) that fits together. Polling and comparing bytes, since the files of a Secret volume are symbolic links that are swapped,
 * which watchers and times of change miss. A half-written pair (the key not of this certificate) waits for the next look.
 * Ends when `signal` aborts. `onChange` may throw: it is then reported as an error and tried again on the next change.
 */
export function watchTlsFiles(options: TlsFiles & { current?: TlsPair; onChange(pair: TlsPair): void }): void {
  let inUse = options.current === undefined ? identity(options) : pairIdentity(options.current)
  let reported: string | undefined
  const look = (): void => {
    const now = identity(options)
    if (now === inUse || now === reported) return
    try {
      options.onChange(readTlsPair(options))
      inUse = now
      reported = undefined
    } catch (error) {
      reported = now
      options.onError?.(error instanceof SignetError ? error : unusable(options, 'cannot be taken over', error))
    }
  }
  const timer = setInterval(look, options.pollMs ?? DEFAULT_POLL_MS).unref()
  options.signal.addEventListener('abort', () => clearInterval(timer), { once: true })
  if (options.signal.aborted) clearInterval(timer)
}

/**
 * Options for `https.createServer` (or Fastify's `https`) from two files, and `follow(server)`, to be called once the server
 * exists: from then on new connections get the certificate that the files hold. TLS 1.2 is the oldest version.
 * @throws SignetError TLS_INVALID when the files cannot be read or do not fit together
 */
export function createReloadingHttpsOptions(files: TlsFiles & { readonly onReload?: (pair: TlsPair) => void }): {
  https: TlsPair & { minVersion: 'TLSv1.2' }
  follow(server: TlsServer): void
} {
  const pair = readTlsPair(files)
  return {
    https: { ...pair, minVersion: 'TLSv1.2' },
    follow(server) {
      watchTlsFiles({
        ...files,
        current: pair,
        onChange: (next) => {
          server.setSecureContext({ ...next, minVersion: 'TLSv1.2' })
          files.onReload?.(next)
        },
      })
    },
  }
}

/** Both files, checked to fit together. @throws SignetError TLS_INVALID */
export function readTlsPair(files: { readonly certFile: string; readonly keyFile: string }): TlsPair {
  return checkTlsPair({ cert: read(files.certFile), key: read(files.keyFile) }, `${files.certFile}, ${files.keyFile}`)
}

/** Gives the pair back if the key is that of the first certificate. `where` is named in the message. @throws SignetError TLS_INVALID */
export function checkTlsPair(pair: TlsPair, where: string): TlsPair {
  let matches: boolean
  try {
    matches = new X509Certificate(pair.cert).checkPrivateKey(createPrivateKey(pair.key))
  } catch (cause) {
    throw new SignetError('TLS_INVALID', `${where}: not a PEM certificate and its PEM private key`, { cause })
  }
  if (!matches) throw new SignetError('TLS_INVALID', `${where}: the private key is not that of the certificate`)
  return pair
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw new SignetError('TLS_INVALID', `${path} cannot be read: ${reason(cause)}`, { cause })
  }
}

function identity({ certFile, keyFile }: { certFile: string; keyFile: string }): string {
  try {
    return pairIdentity({ cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') })
  } catch (error) {
    return `unreadable: ${reason(error)}`
  }
}

function pairIdentity({ cert, key }: TlsPair): string {
  return `${cert}\0${key}`
}

function unusable(files: { certFile: string }, what: string, cause: unknown): SignetError {
  return new SignetError('TLS_INVALID', `${files.certFile} ${what}: ${reason(cause)}`, { cause })
}

function reason(error: unknown): string {
  return error instanceof Error && 'code' in error
    ? String(error.code)
    : error instanceof Error
      ? error.message
      : String(error)
}
