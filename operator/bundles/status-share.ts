import { promisify } from 'node:util'
import { gunzip, gzip } from 'node:zlib'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { pause, type Clock } from '#operator/clock.ts'
import { OBJECT_LABEL, objectLabels, type ObjectOwner, type ObjectStore, type StoredObject } from './objects.ts'
import { createTurns } from './source.ts'
import { createStatusRegistry, type Recorded, type StatusRegistry } from './registry.ts'
import type { ProxyStatus } from './status-report.ts'

const compress = promisify(gzip)
const decompress = promisify(gunzip)

const Rows = Type.Array(
  Type.Object({
    namespace: Type.String({ maxLength: 63 }),
    pod: Type.String({ maxLength: 253 }),
    uid: Type.String({ maxLength: 64 }),
    revision: Type.Union([Type.Null(), Type.String({ maxLength: 64 })]),
    code: Type.Union([Type.Null(), Type.String({ maxLength: 64 })]),
    message: Type.Union([Type.Null(), Type.String({ maxLength: 400 })]),
    reportedMs: Type.Number(),
  }),
)
const checker = Compile(Rows)

const PREFIX = 'signet-bundle-status-'
const CONTENT = 'proxies.json.gz'
/** When its replica wrote it last; one of a replica that is gone is removed by the leader. */
export const WRITTEN_AT = 'signet.dev/written-at'
const MAX_OBJECT_BYTES = 900 * 1024
const MAX_UNPACKED_BYTES = 16 << 20

export type StatusShareOptions = {
  readonly objects: ObjectStore
  /** Unique among replicas and a name: the pod's. */
  readonly replica: string
  /** The replica's Pod, so that its object goes with it. */
  readonly owner?: ObjectOwner
  readonly clock: Clock
  /** Between two writes at least; default 2,000. */
  readonly minIntervalMs?: number
  /** Between two writes at most, where proxies report; default 30,000. */
  readonly maxIntervalMs?: number
  /** After which a silent proxy is gone; default 120,000: heartbeat and longest interval, twice. */
  readonly expiryMs?: number
  readonly maxProxies?: number
  /** A namespace's proxies say something new. */
  readonly onChange?: (namespace: string) => void
  readonly onError?: (error: unknown) => void
}

/**
 * What proxies report, known at every replica: each keeps what it hears in an object of its own, and reads those of the others. So a
 * new leader knows all of it at once, and nothing but the API server has to be reachable. See docs/adr/0028.
 */
export type StatusShare = {
  /** Of all replicas. */
  readonly view: StatusRegistry
  /** What this replica was told. */
  report(status: ProxyStatus): Recorded
  /** Writes and follows until `signal` aborts. Never rejects. */
  run(signal: AbortSignal): Promise<void>
}

export function createStatusShare(options: StatusShareOptions): StatusShare {
  const { objects, replica, clock } = options
  const { minIntervalMs = 2_000, maxIntervalMs = 30_000, expiryMs = 120_000, maxProxies = 20_000 } = options
  const name = `${PREFIX}${replica}`
  const now = (): number => clock.wallMs()
  const own = createStatusRegistry({ maxProxies, expiryMs, now })
  const view = createStatusRegistry({ maxProxies: 2 * maxProxies, expiryMs, now })
  // One at a time: packed content may grow a thousandfold.
  const turn = createTurns(1)
  let news = false
  let writtenMs = -Infinity

  async function take(object: StoredObject): Promise<void> {
    if (object.name === name) return
    const rows = await unpack(object.binaryData[CONTENT])
    const changed = new Set<string>()
    const oldestMs = now() - expiryMs
    for (const row of rows) {
      // A clock that is ahead must not make a row immortal.
      const status = { ...row, reportedMs: Math.min(row.reportedMs, now()) }
      if (status.reportedMs >= oldestMs && view.record(status) === 'changed') changed.add(status.namespace)
    }
    for (const namespace of changed) options.onChange?.(namespace)
  }

  async function write(): Promise<void> {
    const content = await pack([...own.all()])
    const object = {
      name,
      labels: objectLabels('status'),
      annotations: { [WRITTEN_AT]: new Date(now()).toISOString() },
      data: {},
      binaryData: { [CONTENT]: content },
      ...(options.owner === undefined ? {} : { owner: options.owner }),
    }
    const found = await objects.read(name)
    const written = await (found === null ? objects.create(object) : objects.replace(found, object))
    // Nobody else writes it, but somebody may remove it.
    if (written === null) throw new Error(`the ConfigMap ${name} was changed by someone else`)
  }

  async function tick(): Promise<void> {
    for (const namespace of view.sweep()) options.onChange?.(namespace)
    if (own.sweep().size > 0) news = true
    const isDue = own.size > 0 && clock.monotonicMs() - writtenMs >= maxIntervalMs
    if (!news && !isDue) return
    news = false
    try {
      await write()
      writtenMs = clock.monotonicMs()
    } catch (error) {
      news = true
      options.onError?.(error)
    }
  }

  return {
    view,
    report(status) {
      const recorded = own.record(status)
      if (recorded === 'full') return recorded
      if (recorded === 'changed') news = true
      if (view.record(status) === 'changed') options.onChange?.(status.namespace)
      return recorded
    },
    async run(signal) {
      const following = objects.watch({
        label: OBJECT_LABEL,
        values: ['status'],
        onChange: (change) => {
          if (change.type === 'present')
            turn(() => take(change.object)).catch((error: unknown) => options.onError?.(error))
        },
        onSynced: () => {},
        onError: (error) => options.onError?.(error),
        signal,
      })
      while (await pause(clock, minIntervalMs, signal)) await tick()
      await following
    },
  }
}

/** As much as an object holds: without messages if it must be, and then without those that are last. */
async function pack(rows: readonly ProxyStatus[]): Promise<Buffer> {
  let kept = rows
  for (;;) {
    const packed = await compress(JSON.stringify(kept))
    if (packed.length <= MAX_OBJECT_BYTES) return packed
    if (kept.some((row) => row.message !== null)) kept = kept.map((row) => ({ ...row, message: null }))
    else kept = kept.slice(0, Math.floor(kept.length / 2))
  }
}

async function unpack(bytes: Buffer | undefined): Promise<readonly ProxyStatus[]> {
  const text = await decompress(bytes ?? Buffer.alloc(0), { maxOutputLength: MAX_UNPACKED_BYTES })
  const rows: unknown = JSON.parse(text.toString('utf8'))
  if (!checker.Check(rows)) throw new Error('an object of proxies’ status is not in form')
  return rows
}
