import { SignetError } from '#core/error/signet-error.ts'

/** The refusal of content past the limit; none of it was handed on. */
export function tooLarge(maxBytes: number): SignetError {
  return new SignetError(
    'STAMP_CONTENT_TOO_LARGE',
    `the content is larger than ${maxBytes} bytes, which is as much as is held until it is verified`,
    { details: { max_bytes: maxBytes } },
  )
}

/**
 * The content of an answer, `maxBytes` at most; past it nothing more is read.
 * @throws SignetError STAMP_CONTENT_TOO_LARGE; whatever the connection throws
 */
export async function readBounded(response: Response, maxBytes: number): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of response.body ?? []) {
    const bytes = chunk as Uint8Array
    length += bytes.byteLength
    // Leaving the loop cancels the body.
    if (length > maxBytes) throw tooLarge(maxBytes)
    chunks.push(bytes)
  }
  return Buffer.concat(chunks)
}
