import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { followInjection } from './injection.ts'

const CA = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'
const SETTINGS = {
  version: 1,
  images: { proxy: 'registry/signet-proxy:1', redirect: 'registry/signet-redirect:1' },
  ledgerUrl: 'https://signet-ledger.signet-system.svc:8090',
  bundlesUrl: 'https://signet-operator.signet-system.svc:8443',
}
const stopping: AbortController[] = []
afterEach(() => {
  for (const controller of stopping.splice(0)) controller.abort()
})

function bench(text: string) {
  const file = path.join(mkdtempSync(path.join(tmpdir(), 'signet-injection-')), 'injection.yaml')
  writeFileSync(file, text)
  const controller = new AbortController()
  stopping.push(controller)
  const errors: unknown[] = []
  let trustCa: string | null = null
  const following = followInjection({
    path: file,
    trustCa: () => trustCa,
    signal: controller.signal,
    onError: (error) => errors.push(error),
    pollMs: 10,
  })
  return { file, following, errors, trust: (ca: string) => (trustCa = ca) }
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; tries < 200 && !condition(); tries++) await new Promise((resolve) => setTimeout(resolve, 10))
  expect(condition()).toBe(true)
}

describe('what injected pods get', () => {
  it('is the file and the platform’s authority, as both are now', async () => {
    const { file, following, trust, errors } = bench(stringify(SETTINGS))
    const injection = await following
    expect(injection()).toBeNull()
    trust(CA)
    expect(injection()).toMatchObject({ ...SETTINGS, trustCa: CA })
    expect(injection()).toBe(injection())
    writeFileSync(file, stringify({ ...SETTINGS, mode: 'shadow' }))
    await until(() => injection()?.mode === 'shadow')
    trust(CA + CA)
    expect(injection()?.trustCa).toBe(CA + CA)
    // What cannot be used leaves the former in force.
    writeFileSync(file, 'version: 7')
    await until(() => errors.length > 0)
    expect(injection()?.mode).toBe('shadow')
  })

  it('the file does not say whom to trust', async () => {
    const { following, trust } = bench(stringify({ ...SETTINGS, trustCa: '-----BEGIN CERTIFICATE-----\nFORGED' }))
    trust(CA)
    expect((await following)()?.trustCa).toBe(CA)
  })

  it('is nothing without a file', async () => {
    const injection = await followInjection({
      path: undefined,
      trustCa: () => CA,
      signal: new AbortController().signal,
      onError: () => {},
    })
    expect(injection()).toBeNull()
  })

  it.each(['version: 7', 'a: [', '7', 'a: 1\na: 2'])('%j is refused at the start', async (text) => {
    await expect(bench(text).following).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
  })
})
