import { digestText } from '../crypto/digest.ts'
import { SignetError } from '../error/signet-error.ts'

/** An RFC 9651 item: the hash as a token. */
const HASH = /^(sha256:[0-9a-f]{64})/
/** A parameter: `;`, spaces, a key, and a value that is a string, a token, a number, a boolean, or left out. */
const PARAMETER =
  /; *([a-z*][a-z0-9_.*-]*)(?:=("(?:[ !#-[\]-~]|\\["\\])*"|[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*|-?[0-9]{1,15}(?:\.[0-9]{1,3})?|\?[01]))?/y
const BASE64URL = /^[A-Za-z0-9_-]+$/
const SPACE = 0x20
/** Longer than any header section that an HTTP server takes. */
const MAX_HEADER_CHARS = 64 * 1024

/** The value of `Compliance-Stamp`: `sha256:…`, and with a stamp `sha256:…; stamp="BASE64URL"` (no padding) of its JCS bytes. */
export function formatStampHeader(hash: string, stampJcs: string | Buffer | null): string {
  if (stampJcs === null) return hash
  const bytes = typeof stampJcs === 'string' ? Buffer.from(stampJcs) : stampJcs
  return `${hash}; stamp="${bytes.toString('base64url')}"`
}

/**
 * Reads a `Compliance-Stamp` value; spaces around it and parameters other than `stamp` are passed over. The stamp itself is not
 * verified, but its bytes have the hash.
 * @throws SignetError STAMP_INVALID when the value is longer than 64 KiB, has another form, or its stamp another hash
 */
export function parseStampHeader(value: string): { hash: string; stampBytes?: Buffer } {
  if (value.length > MAX_HEADER_CHARS) throw invalid(`is longer than ${MAX_HEADER_CHARS} bytes`)
  const text = trimSpaces(value)
  const hash = HASH.exec(text)?.[1]
  if (hash === undefined) throw invalid('does not begin with `sha256:` and 64 lowercase hex digits')
  let stampBytes: Buffer | undefined
  for (let at = hash.length; at < text.length; at = PARAMETER.lastIndex) {
    PARAMETER.lastIndex = at
    const parameter = PARAMETER.exec(text)
    if (parameter === null) throw invalid('has something behind the hash that is no parameter')
    if (parameter[1] !== 'stamp') continue
    if (stampBytes !== undefined) throw invalid('has the parameter `stamp` twice')
    stampBytes = readStamp(parameter[2])
  }
  if (stampBytes === undefined) return { hash }
  if (digestText(stampBytes) !== hash) throw invalid('has a stamp whose hash is not the one that it states')
  return { hash, stampBytes }
}

/** Spaces only (RFC 9651 §4.2). By hand, since ` +$` as an expression looks at each run of spaces once for every space in it. */
function trimSpaces(value: string): string {
  let start = 0
  let end = value.length
  while (start < end && value.charCodeAt(start) === SPACE) start++
  while (end > start && value.charCodeAt(end - 1) === SPACE) end--
  return value.slice(start, end)
}

function readStamp(quoted: string | undefined): Buffer {
  const text = quoted?.startsWith('"') === true ? quoted.slice(1, -1) : ''
  const bytes = Buffer.from(text, 'base64url')
  if (!BASE64URL.test(text) || bytes.toString('base64url') !== text)
    throw invalid('has a `stamp` that is no string of base64url without padding')
  return bytes
}

function invalid(what: string): SignetError {
  return new SignetError('STAMP_INVALID', `the Compliance-Stamp header ${what}`)
}
