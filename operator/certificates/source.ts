import { readFileSync } from 'node:fs'
import { SignetError } from '#core/error/signet-error.ts'
import type { Clock } from '#operator/clock.ts'
import { apiPath, type KubernetesClient } from '#operator/kubernetes/client.ts'
import { createInformer, type InformerObserver } from '#operator/kubernetes/informer.ts'
import { secretText, type Secret } from '#operator/kubernetes/named-objects.ts'
import { checkTlsPair, readTlsPair, watchTlsFiles, type TlsPair } from '#runtime/tls/reloading.ts'
import { splitCertificates } from './authority.ts'
import { OPERATOR_TLS_SECRET } from './keeper.ts'

/** What this replica serves with, and what pods are told to trust; both change while it runs. */
export type CertificateSource = {
  readonly pair: TlsPair | null
  /** PEM of the platform's authority; null before it is known. */
  readonly trustCa: string | null
  /** Calls back at once, if there is a pair, and with each new one. */
  onPair(callback: (pair: TlsPair) => void): void
  run(signal: AbortSignal): Promise<void>
}

type Holder = CertificateSource & { setPair(pair: TlsPair): void; setTrust(trust: string): void }

function createHolder(
  run: (holder: Holder, signal: AbortSignal) => Promise<void>,
  first: { readonly pair: TlsPair; readonly trust: string } | null = null,
): CertificateSource {
  const callbacks: ((pair: TlsPair) => void)[] = []
  let pair = first?.pair ?? null
  let trustCa = first?.trust ?? null
  const holder: Holder = {
    get pair() {
      return pair
    },
    get trustCa() {
      return trustCa
    },
    onPair(callback) {
      callbacks.push(callback)
      if (pair !== null) callback(pair)
    },
    setPair(next) {
      if (pair?.cert === next.cert && pair.key === next.key) return
      pair = next
      for (const callback of callbacks) callback(next)
    },
    setTrust(next) {
      trustCa = next
    },
    run: (signal) => run(holder, signal),
  }
  return holder
}

/** From the Secret that the leader keeps. A Secret that went, or cannot be used, leaves the former pair in use. */
export function certificatesFromSecret(deps: {
  readonly client: KubernetesClient
  readonly namespace: string
  readonly clock: Clock
  readonly random: () => number
  readonly observer: InformerObserver
}): CertificateSource {
  return createHolder(async (holder, signal) => {
    const informer = createInformer<Secret>({
      name: OPERATOR_TLS_SECRET,
      client: deps.client,
      path: apiPath('api/v1', 'namespaces', deps.namespace, 'secrets'),
      // Narrowed by name, so that a role for this one Secret is enough.
      fieldSelector: `metadata.name=${OPERATOR_TLS_SECRET}`,
      keep: (secret) => secret,
      onChange: ({ after }) => {
        if (after === undefined) return
        const trust = secretText(after, 'ca.crt')
        if (trust !== undefined && splitCertificates(trust).length > 0) holder.setTrust(trust)
        const pair = { cert: secretText(after, 'tls.crt') ?? '', key: secretText(after, 'tls.key') ?? '' }
        holder.setPair(checkTlsPair(pair, `Secret ${OPERATOR_TLS_SECRET}`))
      },
      clock: deps.clock,
      random: deps.random,
      observer: deps.observer,
    })
    await informer.run(signal)
  })
}

/** From files that cert-manager, or a person, keeps. @throws SignetError TLS_INVALID where they cannot be used at the start */
export function certificatesFromFiles(deps: {
  readonly certFile: string
  readonly keyFile: string
  readonly caFile: string
  readonly pollMs?: number
  readonly onError: (error: unknown) => void
}): CertificateSource {
  const readTrust = (): string => {
    let text: string
    try {
      text = readFileSync(deps.caFile, 'utf8')
    } catch (cause) {
      throw new SignetError('TLS_INVALID', `${deps.caFile} cannot be read: ${(cause as Error).message}`, { cause })
    }
    const certificates = splitCertificates(text)
    if (certificates.length === 0) throw new SignetError('TLS_INVALID', `${deps.caFile} holds no PEM certificate`)
    return certificates.join('')
  }
  const first = { pair: readTlsPair(deps), trust: readTrust() }
  return createHolder(async (holder, signal) => {
    watchTlsFiles({ ...deps, signal, current: first.pair, onChange: (pair) => holder.setPair(pair) })
    let reported = false
    const timer = setInterval(() => {
      try {
        holder.setTrust(readTrust())
        reported = false
      } catch (error) {
        if (!reported) deps.onError(error)
        reported = true
      }
    }, deps.pollMs ?? 1_000).unref()
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve()
      signal.addEventListener('abort', () => resolve(), { once: true })
    })
    clearInterval(timer)
  }, first)
}
