import { Counter, Histogram, type CounterConfiguration, type HistogramConfiguration } from 'prom-client'

/** One series of a `TalliedCounter`. */
export class Series {
  #pending = 0

  inc(): void {
    this.#pending += 1
  }

  take(): number {
    const pending = this.#pending
    this.#pending = 0
    return pending
  }
}

/**
 * A counter whose series can be counted in a field, and reach the registry when the metrics are read: with its labels looked up for
 * every answer, `inc` costs as much as a digest.
 */
export class TalliedCounter<Label extends string> extends Counter<Label> {
  readonly #series: { readonly labels: Partial<Record<Label, string>>; readonly series: Series }[] = []

  constructor(config: CounterConfiguration<Label>) {
    super({
      ...config,
      collect() {
        ;(this as TalliedCounter<Label>).#collect()
      },
    })
  }

  /** To be kept by who counts; there are as many as were asked for. */
  series(labels: Partial<Record<Label, string>>): Series {
    const series = new Series()
    this.#series.push({ labels, series })
    return series
  }

  #collect(): void {
    for (const { labels, series } of this.#series) {
      const pending = series.take()
      if (pending > 0) this.inc(labels, pending)
    }
  }
}

const KEPT = 1024

/** A histogram without labels whose observations are put into their buckets many at a time, and when the metrics are read. */
export class TalliedHistogram extends Histogram {
  readonly #values = new Float64Array(KEPT)
  #count = 0

  constructor(config: HistogramConfiguration<string>) {
    super({
      ...config,
      collect() {
        ;(this as TalliedHistogram).#collect()
      },
    })
  }

  note(value: number): void {
    this.#values[this.#count] = value
    this.#count += 1
    if (this.#count === KEPT) this.#collect()
  }

  #collect(): void {
    for (let index = 0; index < this.#count; index += 1) this.observe(this.#values[index] as number)
    this.#count = 0
  }
}
