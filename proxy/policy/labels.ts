import { SignetError } from '#core/error/signet-error.ts'

export type WorkloadLabels = Readonly<Record<string, string>>

export const NO_LABELS: WorkloadLabels = Object.freeze({})
const LINE = /^([A-Za-z0-9][-A-Za-z0-9_./]{0,316})="((?:[^"\\]|\\["\\/bfnrt])*)"$/
const MAX_LENGTH = 256 * 1024

/**
 * The labels of the pod, from the file that the downward API writes: lines of `key="value"`
 * (https://kubernetes.io/docs/concepts/workloads/pods/downward-api/). Throws CONFIG_INVALID, naming the line.
 */
export function parseLabels(text: string): WorkloadLabels {
  if (text.length > MAX_LENGTH) throw invalid('it is larger than 256 KiB')
  const labels: Record<string, string> = {}
  for (const [index, line] of text.split('\n').entries()) {
    if (line === '') continue
    const [, name, quoted] = LINE.exec(line) ?? []
    if (name === undefined) throw invalid(`line ${index + 1} is not of the form key="value"`)
    Object.defineProperty(labels, name, { value: JSON.parse(`"${quoted}"`), enumerable: true, configurable: true })
  }
  return Object.freeze(labels)
}

function invalid(why: string): SignetError {
  return new SignetError('CONFIG_INVALID', `SIGNET_WORKLOAD_LABELS: the file of labels cannot be used: ${why}`)
}
