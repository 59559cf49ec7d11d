import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'

it('npm run dogfood finds everything as it should be', async () => {
  const script = path.resolve(import.meta.dirname, '../dogfood/dogfood.ts')
  const { stdout } = await promisify(execFile)(process.execPath, [script], { timeout: 280_000 })
  const lines = stdout.split('\n').filter((line) => /^(ok|NOT OK) /.test(line))
  expect(lines.length).toBeGreaterThan(10)
  expect(lines.filter((line) => line.startsWith('NOT OK'))).toEqual([])
}, 300_000)
