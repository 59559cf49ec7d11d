import { treeBroken } from '../chain/fault.ts'

/** Leaves `firstLeaf` … `firstLeaf + count - 1` are the tenant's links `firstSeq` … `firstSeq + count - 1`. */
export type TreeRun = {
  readonly firstLeaf: number
  readonly tenant: string
  readonly firstSeq: number
  readonly count: number
}

/**
 * Checks that runs, added in the order of their leaves, cover the tree and each chain from the beginning, without overlap or hole.
 */
export class RunsCheck {
  readonly #lastSeq = new Map<string, number>()
  readonly #wholeTree: boolean
  #leaves = 0

  /** `wholeTree`: the runs of all tenants are added; else those of some, whose leaves may lie apart. */
  constructor({ wholeTree }: { wholeTree: boolean }) {
    this.#wholeTree = wholeTree
  }

  /** Leaves covered, to the end of the last run. */
  get leaves(): number {
    return this.#leaves
  }

  /** The last link of each tenant that is in the tree. */
  get lastSeq(): ReadonlyMap<string, number> {
    return this.#lastSeq
  }

  /** @throws SignetError CHAIN_BROKEN */
  add({ firstLeaf, tenant, firstSeq, count }: TreeRun): void {
    const at = this.#leaves
    if (!(count > 0)) throw treeBroken(firstLeaf, 'edit', `a run has ${count} leaves`)
    if (firstLeaf < at) throw treeBroken(firstLeaf, 'insert', `leaf ${firstLeaf} is in two runs`)
    if (this.#wholeTree && firstLeaf > at)
      throw treeBroken(at, 'delete', `no run says what leaves ${at} to ${firstLeaf - 1} are`)
    const wanted = (this.#lastSeq.get(tenant) ?? 0) + 1
    if (firstSeq !== wanted) {
      throw treeBroken(
        firstLeaf,
        firstSeq < wanted ? 'insert' : 'delete',
        firstSeq < wanted
          ? `link ${firstSeq} of a tenant is in two runs`
          : `links ${wanted} to ${firstSeq - 1} of a tenant are in no run`,
        { expected: { first_seq: wanted }, found: { first_seq: firstSeq } },
      )
    }
    this.#lastSeq.set(tenant, firstSeq + count - 1)
    this.#leaves = firstLeaf + count
  }
}
