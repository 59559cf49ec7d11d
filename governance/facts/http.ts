import { request } from 'undici'
import type { JsonObject, JsonValue } from '#core/json/value.ts'
import { EACH_TIMEOUT_MS } from './deadline.ts'

const MAX_BODY_BYTES = 64 * 1024

/**
 * What a URL answers: `status`, and `body` where it is JSON of at most 64 KiB. A redirect is an answer like others, and is not followed: it leads where
 * nobody named. What does not answer, or not to the end in time, is a fact as well. Never rejects.
 */
export async function readJson(url: string, timeoutMs = EACH_TIMEOUT_MS): Promise<JsonObject> {
  let status: number
  let isJson: boolean
  const chunks: Buffer[] = []
  try {
    const answer = await request(url, { signal: AbortSignal.timeout(timeoutMs), headersTimeout: timeoutMs })
    status = answer.statusCode
    isJson = String(answer.headers['content-type'] ?? '').includes('json')
    let length = 0
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      length += chunk.length
      if (length > MAX_BODY_BYTES) return { answers: true, status, too_large: true }
      chunks.push(chunk)
    }
  } catch {
    return { answers: false }
  }
  if (!isJson) return { answers: true, status }
  try {
    return { answers: true, status, body: JSON.parse(Buffer.concat(chunks).toString('utf8')) as JsonValue }
  } catch {
    return { answers: true, status, is_json: false }
  }
}
