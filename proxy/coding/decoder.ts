import {
  constants,
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createZstdDecompress,
  type BrotliDecompress,
  type Gunzip,
  type Inflate,
  type ZstdDecompress,
} from 'node:zlib'
import type { Coding } from './coding.ts'
import { CodingFault } from './fault.ts'

/** How far content may grow. */
export type GrowthLimits = {
  /** What any answer may grow to. */
  readonly freeBytes: number
  /** Beyond that: bytes of content for each byte that came. */
  readonly maxRatio: number
}

type Layer = { readonly stream: Gunzip | Inflate | BrotliDecompress | ZstdDecompress; fed: number; made: number }

/** Largest window that an encoder may ask for; RFC 9659 allows no more in HTTP, and clients take no more. */
export const ZSTD_WINDOW = { [constants.ZSTD_d_windowLogMax]: 23 }

/** The pool makes so much in one go: more would hold up the audit spool, less costs a turn of the event loop oftener. */
export const MAX_PIECE_BYTES = 65_536

/** What a decoder may hold at most, by its largest window; zstd's and Brotli's are as large as the content says. */
export const DECODER_BYTES: Readonly<Record<Coding, number>> = {
  gzip: 65_536,
  deflate: 65_536,
  zstd: 9_437_184,
  br: 17_825_792,
}

/**
 * Removes content codings from bytes as they come, in the thread pool. Fails, with a CodingFault, on what is damaged, cut short or
 * followed by bytes that are no part of it (which some decoders drop, and others read), and on what grows past the limits: at any layer,
 * while it grows. Content is handed over in pieces of `pieceBytes` at most, and not while paused, so that what waits is bounded.
 */
export class Decoder {
  readonly #layers: readonly Layer[]
  readonly #limits: GrowthLimits
  #received = 0
  #failure: CodingFault | null = null
  #waits: { resolve: () => void; reject: (error: CodingFault) => void } | null = null

  /** `codings`: as applied, first to last; at least one. */
  constructor(
    codings: readonly Coding[],
    limits: GrowthLimits,
    onContent: (piece: Buffer) => void,
    pieceBytes = MAX_PIECE_BYTES,
  ) {
    this.#limits = limits
    this.#layers = codings.toReversed().map((coding) => ({ stream: create(coding, pieceBytes), fed: 0, made: 0 }))
    for (const [index, layer] of this.#layers.entries()) {
      const next = this.#layers[index + 1]
      layer.stream.on('error', (cause) => this.#fail(damaged(cause)))
      layer.stream.on('data', (piece: Buffer) => {
        if (this.#failure !== null || !this.#hasRoom(layer, piece)) return
        if (next === undefined) onContent(piece)
        else feed(next, piece, layer)
      })
      layer.stream.once('end', () => {
        // Before there is an end: bytes follow that are no part of it.
        if (!layer.stream.writableEnded) this.#fail(trailing())
        else if (next !== undefined) next.stream.end()
        else this.#finish()
      })
    }
  }

  /** Resolves when all that these bytes become is handed over, or waits in a buffer of fixed size. */
  write(chunk: Buffer): Promise<void> {
    const first = this.#layers[0] as Layer
    this.#received += chunk.length
    first.fed += chunk.length
    return this.#settled((done) => first.stream.write(chunk, done))
  }

  /** Resolves when all content is handed over. */
  end(): Promise<void> {
    return this.#settled(() => void (this.#layers[0] as Layer).stream.end())
  }

  pause(): void {
    this.#layers.at(-1)?.stream.pause()
  }

  resume(): void {
    this.#layers.at(-1)?.stream.resume()
  }

  /** Who waits is told that it is over. */
  destroy(): void {
    this.#fail(new CodingFault('damaged', 'The service broke off'))
  }

  #settled(start: (done: () => void) => void): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure)
    return new Promise((resolve, reject) => {
      this.#waits = { resolve, reject }
      start(() => {
        if (this.#failure === null) resolve()
      })
    })
  }

  #finish(): void {
    if (this.#layers.some(({ stream, fed }) => stream.bytesWritten !== fed)) this.#fail(trailing())
    else if (this.#failure === null) this.#waits?.resolve()
  }

  #hasRoom(layer: Layer, piece: Buffer): boolean {
    const { freeBytes, maxRatio } = this.#limits
    layer.made += piece.length
    if (layer.made <= freeBytes || layer.made <= this.#received * maxRatio) return true
    this.#fail(
      new CodingFault(
        'bomb',
        `The service's content grows to more than ${maxRatio} times what it sent, and past ${freeBytes} bytes (SIGNET_COMPRESSION_MAX_RATIO)`,
      ),
    )
    return false
  }

  #fail(failure: CodingFault): void {
    if (this.#failure !== null) return
    this.#failure = failure
    for (const { stream } of this.#layers) stream.destroy()
    this.#waits?.reject(failure)
  }
}

/** One layer's content is the next one's bytes. */
function feed(next: Layer, piece: Buffer, from: Layer): void {
  next.fed += piece.length
  if (next.stream.write(piece)) return
  from.stream.pause()
  next.stream.once('drain', () => from.stream.resume())
}

function create(coding: Coding, chunkSize: number): Layer['stream'] {
  switch (coding) {
    case 'gzip':
      return createGunzip({ chunkSize })
    case 'deflate':
      return createInflate({ chunkSize })
    case 'br':
      return createBrotliDecompress({ chunkSize })
    case 'zstd':
      return createZstdDecompress({ chunkSize, params: ZSTD_WINDOW })
  }
}

export function trailing(): CodingFault {
  return new CodingFault('damaged', 'The service sent something behind the end of its coded content')
}

export function damaged(cause: unknown): CodingFault {
  return new CodingFault('damaged', 'The coded content of the service is damaged, or cut short', { cause })
}
