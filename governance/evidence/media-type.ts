import { fileTypeFromBuffer } from 'file-type'
import { SignetError } from '#core/error/signet-error.ts'

/** What is taken, and how a file's name then ends. Nothing that is a program, a page with scripts, or a folder of other files. */
export const MEDIA_TYPES = {
  'application/pdf': 'pdf',
  'image/png': 'png',
  'image/jpeg': 'jpg',
  'application/vnd.openxmlformats-officedocument.wordprocessingml.document': 'docx',
  'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet': 'xlsx',
  'application/json': 'json',
  'text/plain': 'txt',
  'text/csv': 'csv',
  'text/markdown': 'md',
} as const
export type MediaType = keyof typeof MEDIA_TYPES

/** How binary files of the list begin; anything else that is not text is not looked into. */
const BEGINNINGS = ['%PDF-', '\x89PNG\r\n\x1a\n', '\xff\xd8\xff', 'PK\x03\x04'] as const

/**
 * The type of a file, as it says and as it is: both have to be the same one of the list.
 * @param declared a Content-Type (RFC 9110, 8.3); of its parameters only `charset=utf-8` may be there
 * @throws SignetError MEDIA_TYPE_REFUSED
 */
export async function requireMediaType(bytes: Buffer, declared: string | undefined): Promise<MediaType> {
  const said = declaredType(declared)
  const seen = await seenType(bytes)
  if (seen === said) return said
  if (seen === 'text' && isText(said)) {
    if (said === 'application/json') requireJson(bytes)
    return said
  }
  throw new SignetError(
    'MEDIA_TYPE_REFUSED',
    `the file says that it is ${said}, and is ${seen === 'text' ? 'text' : (seen ?? 'something else')}`,
  )
}

function declaredType(declared: string | undefined): MediaType {
  const [, essence = '', rest = ''] = /^([^;\s]{1,100})[ \t]*(.{0,100})$/.exec(declared ?? '') ?? []
  const type = essence.toLowerCase()
  if (!Object.hasOwn(MEDIA_TYPES, type) || (rest !== '' && !/^;[ \t]*charset="?utf-8"?$/i.test(rest)))
    throw new SignetError(
      'MEDIA_TYPE_REFUSED',
      `the header content-type has to be one of ${Object.keys(MEDIA_TYPES).join(', ')}`,
    )
  return type as MediaType
}

function isText(type: MediaType): boolean {
  return type.startsWith('text/') || type === 'application/json'
}

async function seenType(bytes: Buffer): Promise<string | null> {
  const start = bytes.subarray(0, 8).toString('latin1')
  if (BEGINNINGS.some((beginning) => start.startsWith(beginning))) {
    const found = await fileTypeFromBuffer(bytes).catch(() => undefined)
    return found?.mime ?? null
  }
  return isPlainText(bytes) ? 'text' : null
}

/** UTF-8 without control characters but tab, line feed and carriage return. */
function isPlainText(bytes: Buffer): boolean {
  for (const byte of bytes)
    if (byte === 0x7f || (byte < 0x20 && byte !== 0x09 && byte !== 0x0a && byte !== 0x0d)) return false
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    return true
  } catch {
    return false
  }
}

function requireJson(bytes: Buffer): void {
  try {
    JSON.parse(bytes.toString('utf8'))
  } catch {
    throw new SignetError('MEDIA_TYPE_REFUSED', 'the file says that it is application/json, and does not parse')
  }
}
