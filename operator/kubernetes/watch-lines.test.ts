import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { watchLines } from './watch-lines.ts'

async function* chunked(bytes: Buffer, sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  let from = 0
  for (let turn = 0; from < bytes.length; turn++) {
    const size = Math.max(1, sizes[turn % sizes.length] ?? 1)
    yield bytes.subarray(from, from + size)
    from += size
  }
}

async function read(body: AsyncIterable<Uint8Array>, maxBytes = 1_000_000): Promise<unknown[]> {
  const documents: unknown[] = []
  for await (const document of watchLines(body, maxBytes)) documents.push(document)
  return documents
}

describe('the lines of a watch', () => {
  it('come out as they went in, wherever the chunks are cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.jsonValue({ maxDepth: 2 }), { maxLength: 10 }),
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 }),
        async (documents, sizes) => {
          const lines = documents.map((document) => JSON.stringify(document))
          const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''))
          expect(await read(chunked(bytes, sizes))).toEqual(lines.map((line) => JSON.parse(line)))
        },
      ),
    )
  })

  it('a line that the connection cut off is not told', async () => {
    expect(await read(chunked(Buffer.from('{"a":1}\n{"b":'), [3]))).toEqual([{ a: 1 }])
  })

  const refused = [
    { name: 'not JSON', text: 'nonsense\n', wantMessage: 'not JSON' },
    { name: 'a line without end', text: 'x'.repeat(2_000), wantMessage: 'longer than' },
    { name: 'a line that is too long', text: `"${'x'.repeat(2_000)}"\n`, wantMessage: 'longer than' },
  ]
  it.each(refused)('$name ends the watch', async ({ text, wantMessage }) => {
    await expect(read(chunked(Buffer.from(text), [64]), 1_000)).rejects.toThrow(wantMessage)
  })
})
