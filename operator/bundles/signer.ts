import type { JWK } from 'jose'
import type { TrustRoot } from '#engine/bundle/trust.ts'
import { apiPath, apiStatus, type KubernetesClient } from '#operator/kubernetes/client.ts'
import type { KubernetesObject } from '#operator/kubernetes/object.ts'
import { objectLabels, type ObjectStore } from './objects.ts'
import {
  parseKeyFile,
  publicKeyPem,
  publicTrust,
  rotateKeys,
  signingKey,
  storedTrust,
  type RotationTimes,
  type SigningKeyFile,
} from './signing-keys.ts'

export const SIGNING_SECRET = 'signet-bundle-signing'
export const TRUST_OBJECT = 'signet-bundle-trust'
const KEYS = 'keys.json'
const JWKS = 'jwks.json'
const MAX_ATTEMPTS = 5

/** One text that several processes may write, by compare-and-swap. */
export type SecretCell = {
  read(): Promise<{ readonly text: string; readonly version: string } | null>
  /** `version`: of what was read; null makes it. False when another writer was faster. */
  write(text: string, version: string | null): Promise<boolean>
}

/** Ids of the keys that bundles were signed by. */
export type KeysInUse = { readonly inForce: ReadonlySet<string>; readonly stored: ReadonlySet<string> }

/** The leader's signing key and who else may be believed. */
export type BundleSigner = {
  /** The key that signs now; read at the first call, which also makes the first key. */
  current(): Promise<{ readonly kid: string; readonly jwk: JWK }>
  /** Public keys by which stored revisions are checked before they are signed again. */
  storedTrust(): Promise<TrustRoot>
  /** Reads the Secret again, makes and retires keys as they are due, and publishes the trust root. */
  refresh(inUse: KeysInUse): Promise<void>
}

export function createSigner(deps: {
  secret: SecretCell
  objects: ObjectStore
  now: () => Date
  times: RotationTimes
}): BundleSigner {
  const { secret, objects, now, times } = deps
  let file: SigningKeyFile | null = null
  let running: Promise<SigningKeyFile> | null = null

  async function rotate(inUse: KeysInUse): Promise<SigningKeyFile> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const read = await secret.read()
      const before = read === null ? null : parseKeyFile(read.text)
      const after = await rotateKeys(before, now(), inUse.stored, times)
      if (after !== before && !(await secret.write(JSON.stringify(after), read?.version ?? null))) continue
      // Before the first bundle that needs it: proxies ask for the trust root as soon as they see a new key.
      await publishTrust(publicTrust(after, now(), inUse.inForce, times))
      return after
    }
    throw new Error(`the Secret ${SIGNING_SECRET} changes all the time`)
  }

  async function publishTrust(trust: TrustRoot): Promise<void> {
    const data = {
      [JWKS]: `${JSON.stringify(trust)}\n`,
      ...Object.fromEntries(trust.keys.map((key) => [`${key.kid}.pem`, publicKeyPem(key)])),
    }
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const found = await objects.read(TRUST_OBJECT)
      if (found?.data[JWKS] === data[JWKS]) return
      const object = { name: TRUST_OBJECT, labels: objectLabels('trust'), annotations: {}, data, binaryData: {} }
      if ((await (found === null ? objects.create(object) : objects.replace(found, object))) !== null) return
    }
    throw new Error(`the ConfigMap ${TRUST_OBJECT} changes all the time`)
  }

  async function known(): Promise<SigningKeyFile> {
    if (file !== null) return file
    // Without knowing what is in use, nothing is dropped from the trust root: all that is stored counts as in force.
    running ??= (async () => {
      const read = await secret.read()
      const kids = new Set(read === null ? [] : parseKeyFile(read.text).keys.map((key) => key.kid))
      return rotate({ inForce: kids, stored: kids })
    })().finally(() => (running = null))
    file = await running
    return file
  }

  return {
    current: async () => signingKey(await known(), now()),
    storedTrust: async () => storedTrust(await known()),
    async refresh(inUse) {
      file = await rotate(inUse)
    },
  }
}

/** The JWKS of a trust object. */
export function trustText(data: Readonly<Record<string, string>>): string | null {
  return data[JWKS] ?? null
}

type Secret = KubernetesObject & { readonly data?: Readonly<Record<string, string>> }

/** The Secret `signet-bundle-signing` of the operator's namespace. */
export function createSecretCell(client: KubernetesClient, namespace: string): SecretCell {
  const collection = apiPath('api/v1', 'namespaces', namespace, 'secrets')
  const path = `${collection}/${SIGNING_SECRET}`
  return {
    async read() {
      const found = await client.request<Secret>({ path }).catch((error: unknown) => {
        if (apiStatus(error) === 404) return null
        throw error
      })
      if (found === null) return null
      const text = Buffer.from(found.data?.[KEYS] ?? '', 'base64').toString('utf8')
      return { text, version: found.metadata.resourceVersion ?? '' }
    },
    async write(text, version) {
      const body = {
        apiVersion: 'v1',
        kind: 'Secret',
        type: 'Opaque',
        metadata: {
          name: SIGNING_SECRET,
          namespace,
          labels: { 'app.kubernetes.io/part-of': 'signet' },
          ...(version === null ? {} : { resourceVersion: version }),
        },
        data: { [KEYS]: Buffer.from(text).toString('base64') },
      }
      try {
        await client.request(
          version === null ? { method: 'POST', path: collection, body } : { method: 'PUT', path, body },
        )
        return true
      } catch (error) {
        const status = apiStatus(error)
        if (status === 404 || status === 409) return false
        throw error
      }
    },
  }
}
