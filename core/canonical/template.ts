import { SignetError } from '../error/signet-error.ts'

/**
 * Cuts a text at marks: what stands before the first, between each two, and behind the last. Values put between the pieces give the
 * text of other values, as long as none of them would have to be escaped. Each mark must be there once, in this order, so that
 * nothing that happens to read like a mark is taken for one.
 * @throws SignetError CANONICAL_VALUE_INVALID when a mark is missing, there twice, or out of order
 */
export function cutAtMarks(text: string, marks: readonly string[]): readonly string[] {
  const pieces: string[] = []
  let from = 0
  for (const mark of marks) {
    const at = text.indexOf(mark)
    if (at < from || text.indexOf(mark, at + 1) !== -1)
      throw new SignetError('CANONICAL_VALUE_INVALID', 'a mark of the template is not there exactly once, in its place')
    pieces.push(text.slice(from, at))
    from = at + mark.length
  }
  pieces.push(text.slice(from))
  return pieces
}
