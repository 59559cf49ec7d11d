import { SignetError } from '#core/error/signet-error.ts'

const NEWLINE = 0x0a

/**
 * The JSON documents of a watch, one a line. A line may be split over chunks anywhere, inside a character too.
 * @throws SignetError KUBERNETES_UNAVAILABLE for a line that is longer than `maxBytes` or is not JSON
 */
export async function* watchLines(body: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator {
  let parts: Uint8Array[] = []
  let pending = 0
  for await (const chunk of body) {
    let from = 0
    for (let end = chunk.indexOf(NEWLINE, from); end !== -1; end = chunk.indexOf(NEWLINE, from)) {
      parts.push(chunk.subarray(from, end))
      const line = Buffer.concat(parts)
      parts = []
      pending = 0
      from = end + 1
      if (line.length > 0) yield parse(line, maxBytes)
    }
    if (from === chunk.length) continue
    parts.push(chunk.subarray(from))
    pending += chunk.length - from
    if (pending > maxBytes) throw tooLong(maxBytes)
  }
}

function parse(line: Buffer, maxBytes: number): unknown {
  if (line.length > maxBytes) throw tooLong(maxBytes)
  try {
    return JSON.parse(line.toString('utf8'))
  } catch (cause) {
    throw new SignetError('KUBERNETES_UNAVAILABLE', 'a watch event is not JSON', { cause })
  }
}

function tooLong(maxBytes: number): SignetError {
  return new SignetError('KUBERNETES_UNAVAILABLE', `a watch event is longer than ${maxBytes} bytes`)
}
