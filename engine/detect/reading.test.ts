import { expect, it } from 'vitest'
import { isReadableType } from './reading.ts'

it.each([
  {
    want: 'always',
    mediaTypes: [
      '',
      'json',
      'application/json',
      'application/problem+json',
      'application/x-json',
      'application/jsonp',
      'text/x-any',
    ],
  },
  {
    want: 'always',
    mediaTypes: ['text/csv', 'image/svg+xml', 'multipart/mixed', 'message/http', 'text/event-stream', 'text/css'],
  },
  {
    want: 'by-content',
    mediaTypes: [
      'application/octet-stream',
      '*/*',
      'unknown/unknown',
      'application/vnd.ms-excel',
      'application/x-any',
      'application/grpc',
    ],
  },
  {
    want: 'never',
    mediaTypes: [
      'image/png',
      'video/mp4',
      'audio/mpeg',
      'font/woff2',
      'application/pdf',
      'application/zip',
      'application/gzip',
    ],
  },
  {
    want: 'never',
    mediaTypes: [
      'application/wasm',
      'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet',
      'application/epub+zip',
    ],
  },
])('$want: $mediaTypes', ({ want, mediaTypes }) => {
  for (const mediaType of mediaTypes) expect([mediaType, isReadableType(mediaType)]).toEqual([mediaType, want])
})
