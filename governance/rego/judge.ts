import { Worker } from 'node:worker_threads'
import { SignetError } from '#core/error/signet-error.ts'
import type { JudgeAnswer, JudgeTask } from './judge-worker.ts'

/** What is judged: a wasm module as `engine/compile` makes it, and the name of one of its entrypoints. */
export type Judged = { readonly digest: string; readonly wasm: Uint8Array; readonly entrypoint: string }

/** Evaluates Rego away from the event loop. */
export type Judge = {
  /**
   * The value at the entrypoint for `input` (any JSON); undefined where it is undefined in Rego. Interrupted after `timeoutMs`.
   * @throws SignetError EVALUATION_LIMIT (time or memory), RULE_INVALID (it stopped by itself), OVERLOADED (too many wait, or it is closed),
   * REQUEST_INVALID (the input is nested too deeply to be written as JSON)
   */
  evaluate(judged: Judged, input: unknown, timeoutMs: number): Promise<unknown>
  /** Whoever still waits gets OVERLOADED. */
  close(): Promise<void>
}

/** How long after its limit a thread may still be silent before it is replaced. */
const GRACE_MS = 2_000
const MAX_WAITING = 200
/** Digests that are remembered as sent; a thread that has let go of one asks for it again. */
const MAX_KNOWN = 1_000

type Waiting = {
  readonly task: Required<JudgeTask>
  readonly resolve: (value: unknown) => void
  readonly reject: (error: SignetError) => void
}

/** One thread of the pool: one task at a time, so that a slow one holds up only who comes to the same thread. */
class Thread {
  readonly #known = new Set<string>()
  #worker: Worker | null = null
  #busy: { waiting: Waiting; timer: NodeJS.Timeout } | null = null
  readonly #onFree: () => void

  constructor(onFree: () => void) {
    this.#onFree = onFree
  }

  get isFree(): boolean {
    return this.#busy === null
  }

  begin(waiting: Waiting): void {
    const { task } = waiting
    const timer = setTimeout(() => this.#replace('it did not answer'), task.timeoutMs + GRACE_MS)
    this.#busy = { waiting, timer }
    this.#send(task, !this.#known.has(task.digest))
  }

  async close(): Promise<void> {
    this.#end(({ reject }) => reject(stopping()))
    await this.#worker?.terminate()
  }

  #send(task: Required<JudgeTask>, whole: boolean): void {
    const { wasm, ...rest } = task
    if (this.#known.size >= MAX_KNOWN) this.#known.clear()
    this.#known.add(task.digest)
    this.#live().postMessage(whole ? { ...rest, wasm } : rest)
  }

  #live(): Worker {
    if (this.#worker !== null) return this.#worker
    const worker = new Worker(new URL('judge-worker.ts', import.meta.url), {
      resourceLimits: { maxOldGenerationSizeMb: 256 },
    })
    worker.unref()
    worker.on('message', (answer: JudgeAnswer) => this.#take(answer))
    worker.on('error', () => this.#replace('it failed'))
    this.#worker = worker
    return worker
  }

  #take(answer: JudgeAnswer): void {
    const busy = this.#busy
    if (busy === null || busy.waiting.task.id !== answer.id) return
    if ('unknown' in answer) return this.#send(busy.waiting.task, true)
    this.#end(({ resolve, reject }) => {
      if ('fault' in answer) reject(faultOf(answer.fault))
      else resolve(answer.value)
    })
  }

  #replace(why: string): void {
    const former = this.#worker
    this.#worker = null
    this.#known.clear()
    void former?.terminate()
    this.#end(({ reject }) => reject(new SignetError('EVALUATION_LIMIT', `the evaluation was given up: ${why}`)))
  }

  #end(settle: (waiting: Waiting) => void): void {
    const busy = this.#busy
    if (busy === null) return
    clearTimeout(busy.timer)
    this.#busy = null
    settle(busy.waiting)
    this.#onFree()
  }
}

/** `threads`: 1 to 16, default 2. */
export function createJudge({ threads = 2 }: { threads?: number } = {}): Judge {
  const queue: Waiting[] = []
  const pool = Array.from({ length: threads }, () => new Thread(() => pump()))
  let lastId = 0
  let closed = false

  function pump(): void {
    for (const thread of pool) {
      if (!thread.isFree) continue
      const next = queue.shift()
      if (next === undefined) return
      thread.begin(next)
    }
  }

  return {
    async evaluate({ digest, wasm, entrypoint }, input, timeoutMs) {
      if (closed) throw stopping()
      if (queue.length >= MAX_WAITING) throw new SignetError('OVERLOADED', 'too many evaluations wait; try again later')
      const text = textOf(input)
      return new Promise((resolve, reject) => {
        lastId += 1
        const task = { id: lastId, digest, wasm, entrypoint, input: text, timeoutMs }
        queue.push({ task, resolve, reject })
        pump()
      })
    },
    async close() {
      closed = true
      for (const { reject } of queue.splice(0)) reject(stopping())
      await Promise.all(pool.map((thread) => thread.close()))
    },
  }
}

function stopping(): SignetError {
  return new SignetError('OVERLOADED', 'the service is stopping')
}

/** What JSON.parse reads may be nested more deeply than JSON.stringify can follow. */
function textOf(input: unknown): string {
  try {
    return JSON.stringify(input) ?? 'null'
  } catch (cause) {
    throw new SignetError('REQUEST_INVALID', 'the input is nested too deeply', { cause })
  }
}

function faultOf({ kind, message }: { kind: string; message: string }): SignetError {
  if (kind === 'timeout') return new SignetError('EVALUATION_LIMIT', `the policy took too long: ${message}`)
  if (kind === 'memory') return new SignetError('EVALUATION_LIMIT', 'the policy took too much memory')
  if (kind === 'input') return new SignetError('REQUEST_INVALID', `the input cannot be read: ${message}`)
  return new SignetError('RULE_INVALID', `the policy stopped: ${message}`)
}
