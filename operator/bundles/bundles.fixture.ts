import { createHash, randomUUID } from 'node:crypto'
import type { AuditEvent } from '#core/audit/event.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { BundleModule } from '#engine/bundle/build.ts'
import { createActivationGate } from './activation-gate.ts'
import { createBlobs } from './blobs.ts'
import { memoryObjects, type MemoryObjects } from './memory-objects.fixture.ts'
import { createPublisher, type ModulePart, type Publisher, type PublisherDeps } from './publisher.ts'
import { createRevisionStore, type RevisionStore } from './revision-store.ts'
import { createSigner, type BundleSigner, type SecretCell } from './signer.ts'
import { ROTATION } from './signing-keys.ts'

export const NOW = new Date('2026-11-25T09:30:00.000Z')
export const LIFETIME_MS = 48 * 3_600_000

/** A module in form, with bytes that no engine would run: publishing does not run it. `size` bytes of wasm that do not compress. */
export function fakeModule(scope: 'root' | `namespace/${string}`, text: string, size = 0): BundleModule {
  const home = scope === 'root' ? 'root' : `ns_${scope.slice('namespace/'.length).replaceAll('-', '_')}`
  const noise = createHash('shake256', { outputLength: size }).update(text).digest()
  return {
    module: {
      scope,
      path: scope === 'root' ? '/root/policy.wasm' : '/ns/policy.wasm',
      aggregate: `signet/aggregate_${home}/decisions`,
      rules: [
        {
          id: 'rule',
          title: text,
          severity: 'low',
          frameworks: [],
          entrypoint: `signet/${home}/rule/decision`,
          reads: [],
          mode: 'enforce',
          undecidable: { external: 'closed', internal: 'open' },
        },
      ],
    },
    wasm: Buffer.concat([Buffer.from(`wasm of ${text}`), noise]),
  }
}

export const compiled = (module: BundleModule): ModulePart => ({ state: 'compiled', module })
export const NONE: ModulePart = { state: 'none' }
export const failed = (message: string): ModulePart => ({
  state: 'failed',
  error: new SignetError('RULE_INVALID', message),
})

export function memorySecret(): SecretCell & { text: string | null } {
  let version = 0
  const cell = {
    text: null as string | null,
    read: async () => (cell.text === null ? null : { text: cell.text, version: String(version) }),
    async write(text: string, of: string | null) {
      if (of === null ? cell.text !== null : of !== String(version)) return false
      cell.text = text
      version += 1
      return true
    },
  }
  return cell
}

export type PublisherFixture = {
  readonly objects: MemoryObjects
  readonly store: RevisionStore
  readonly secret: ReturnType<typeof memorySecret>
  readonly signer: BundleSigner
  readonly publisher: Publisher
  readonly events: AuditEvent[]
  /** Titles of modules that the differential check refuses. */
  readonly refuse: Set<string>
  clock: Date
  ledgerIsUp: boolean
  /** Another leader, of that term, on the same store. */
  another(term: number, changes?: Partial<PublisherDeps>): Publisher
}

export function publisherFixture(): PublisherFixture {
  const now = (): Date => fixture.clock
  const objects = memoryObjects(now)
  const store = createRevisionStore(objects, createBlobs(objects, { now, graceMs: 3_600_000 }))
  const secret = memorySecret()
  const events: AuditEvent[] = []
  const refuse = new Set<string>()
  const newSigner = (): BundleSigner => createSigner({ secret, objects, now, times: ROTATION })
  const signer = newSigner()
  const gate = createActivationGate({
    async compare({ module }) {
      const title = module.rules[0]?.title ?? ''
      if (refuse.has(title)) throw new SignetError('RULE_INVALID', `wasm and OPA decide differently: ${title}`)
    },
  })
  const make = (term: number, of: BundleSigner, changes: Partial<PublisherDeps> = {}): Publisher =>
    createPublisher({
      store,
      signer: of,
      gate,
      async audit(event) {
        if (!fixture.ledgerIsUp) throw new SignetError('LEDGER_UNREACHABLE', 'the ledger is away')
        events.push(event)
      },
      tenant: 'platform',
      term: () => term,
      now,
      newId: randomUUID,
      newTraceId: () => randomUUID().replaceAll('-', ''),
      lifetimeMs: LIFETIME_MS,
      ...changes,
    })
  const fixture: PublisherFixture = {
    objects,
    store,
    secret,
    signer,
    publisher: make(1, signer),
    events,
    refuse,
    clock: NOW,
    ledgerIsUp: true,
    another: (term, changes) => make(term, newSigner(), changes),
  }
  return fixture
}
