const LENGTH_BYTES = 8

/**
 * Frames parts without ambiguity: each as its length in bytes (unsigned 64-bit big-endian) and its bytes. Strings are UTF-8.
 * Unlike the PAE of DSSE (decimal lengths, two parts) it takes any number of parts; see `docs/reference/stamp.md`.
 */
export function pae(...parts: readonly (Uint8Array | string)[]): Buffer {
  let size = 0
  for (const part of parts)
    size += LENGTH_BYTES + (typeof part === 'string' ? Buffer.byteLength(part) : part.byteLength)
  const framed = Buffer.allocUnsafe(size)
  let at = 0
  for (const part of parts) {
    const start = at + LENGTH_BYTES
    let length: number
    if (typeof part === 'string') {
      length = framed.write(part, start, 'utf8')
    } else {
      framed.set(part, start)
      length = part.byteLength
    }
    framed.writeUInt32BE(Math.floor(length / 2 ** 32), at)
    framed.writeUInt32BE(length % 2 ** 32, at + 4)
    at = start + length
  }
  return framed
}
