import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { ensureSchemathesis } from './build.ts'

const quiet = (): void => {}

describe('the fuzzer', () => {
  it.each([
    {
      what: 'no Python',
      env: { PATH: '/nonexistent' },
      want: /^Python 3\.11 or newer with venv is needed .*apt-get install python3 python3-venv/,
    },
    {
      what: 'a name that leads nowhere',
      env: { SIGNET_SCHEMATHESIS: '/nonexistent/st' },
      want: /^SIGNET_SCHEMATHESIS names \/nonexistent\/st, which is not an executable file$/,
    },
  ])('$what: one line says what is missing', async ({ env, want }) => {
    const error = await ensureSchemathesis({ env, onProgress: quiet }).catch((cause: unknown) => cause)
    expect((error as Error).message).toMatch(want)
    expect((error as Error).message).not.toContain('\n')
  })
  it('where it is named, that one is taken', async () => {
    expect(await ensureSchemathesis({ env: { SIGNET_SCHEMATHESIS: process.execPath }, onProgress: quiet })).toBe(
      process.execPath,
    )
  })
  it('each package is pinned, by version and by hash, and nothing says where packages come from', async () => {
    const text = await readFile(path.join(import.meta.dirname, 'requirements.txt'), 'utf8')
    const packages = text
      .replaceAll('\\\n', ' ')
      .split('\n')
      .filter((line) => line.trim() !== '')
    expect(packages.length).toBeGreaterThan(10)
    for (const line of packages) expect(line).toMatch(/^[a-z0-9-]+==\S+( +--hash=sha256:[0-9a-f]{64})+$/)
    const wanted = (await readFile(path.join(import.meta.dirname, 'requirements.in'), 'utf8')).trim()
    expect(text).toContain(`${wanted} `)
  })
})
