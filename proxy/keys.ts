import type { ActiveStampKey, KeyIndex } from '#core/keyring/keyring.ts'
import { SignetError } from '#core/error/signet-error.ts'

/** The keys in force; replaced as a whole when the keyring file changes. */
export class StampKeys {
  #index: KeyIndex
  #active: ActiveStampKey | null = null
  #checkedAtMs = -Infinity
  #activeUntilMs = -Infinity
  readonly #producerId: string
  readonly #tenant: string

  constructor(index: KeyIndex, producerId: string, tenant: string) {
    this.#index = index
    this.#producerId = producerId
    this.#tenant = tenant
  }

  get index(): KeyIndex {
    return this.#index
  }

  replace(index: KeyIndex): void {
    this.#index = index
    this.#checkedAtMs = -Infinity
  }

  hasActive(nowMs: number): boolean {
    return this.#find(nowMs) !== null
  }

  /** The key that signs now. Throws PROXY_NOT_READY without one: nothing leaves unstamped for want of a key. */
  active(nowMs: number): ActiveStampKey {
    const key = this.#find(nowMs)
    if (key === null) {
      throw new SignetError(
        'PROXY_NOT_READY',
        `No valid stamp key for producer «${this.#producerId}» and tenant «${this.#tenant}»`,
      )
    }
    return key
  }

  /** Looked up once a second, and at once where the key that signed until now may not sign any more. */
  #find(nowMs: number): ActiveStampKey | null {
    const isFresh = nowMs - this.#checkedAtMs < 1_000 && nowMs >= this.#checkedAtMs
    if (!isFresh || (this.#active !== null && nowMs >= this.#activeUntilMs)) {
      this.#active =
        this.#index.activeStampKey({ producerId: this.#producerId, tenant: this.#tenant, at: new Date(nowMs) }) ?? null
      this.#checkedAtMs = nowMs
      this.#activeUntilMs = endOf(this.#active)
    }
    return this.#active
  }
}

function endOf(key: ActiveStampKey | null): number {
  if (key === null) return -Infinity
  return Math.min(Date.parse(key.notAfter), key.revokedAt === null ? Infinity : Date.parse(key.revokedAt))
}
