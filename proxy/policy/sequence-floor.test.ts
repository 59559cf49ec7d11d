import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect, test } from 'vitest'
import { openSequenceFloor } from './sequence-floor.ts'

test('keeps the highest sequence over a restart, and never lowers it', () => {
  const dir = path.join(mkdtempSync(path.join(tmpdir(), 'floor-')), 'spool')
  const first = openSequenceFloor(dir)
  expect(first.floor).toBe(0)
  first.raise(7)
  first.raise(5)
  expect(first.floor).toBe(7)
  expect(openSequenceFloor(dir).floor).toBe(7)
})

test.each(['', 'x', '-1', '1e9', '99999999999999999999'])('a damaged file counts as none: %j', (text) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'floor-'))
  writeFileSync(path.join(dir, 'bundle-sequence'), text)
  expect(openSequenceFloor(dir).floor).toBe(0)
})
