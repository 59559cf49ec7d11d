import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { followNamespaceMap } from './policy-file.ts'

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'signet-map-'))
})
afterAll(() => rm(dir, { recursive: true }))

it('reads YAML and JSON, and follows the file; what cannot be used changes nothing', async () => {
  const file = path.join(dir, 'map.yaml')
  const put = async (text: string): Promise<void> => {
    await writeFile(`${file}.new`, text)
    await rename(`${file}.new`, file)
  }
  await put('version: 1\nnamespaces:\n  reports: {tenant: acme}\n')
  const stop = new AbortController()
  const errors: unknown[] = []
  const changed: (() => void)[] = []
  const map = await followNamespaceMap({
    variable: 'SIGNET_NAMESPACE_MAP',
    path: file,
    signal: stop.signal,
    pollMs: 5,
    onError: (error) => {
      errors.push(error)
      changed.shift()?.()
    },
    onChange: () => changed.shift()?.(),
  })
  const next = () => new Promise<void>((resolve) => changed.push(resolve))
  expect(map().namespaces).toEqual({ reports: { tenant: 'acme' } })

  let news = next()
  await put('{"version":1,"namespaces":{"reports":{"tenant":"globex"}}}')
  await news
  expect(map().namespaces).toEqual({ reports: { tenant: 'globex' } })

  for (const bad of ['{', 'version: 2', 'version: 1\nnamespaces: {a: {}, a: {}}', '&a [*a, *a]', '']) {
    news = next()
    await put(bad)
    await news
    expect(map().namespaces).toEqual({ reports: { tenant: 'globex' } })
  }
  news = next()
  await rm(file)
  await news
  expect(errors).toHaveLength(6)
  news = next()
  await put('{"version":1,"namespaces":{}}')
  await news
  expect(map().namespaces).toEqual({})
  stop.abort()
})

it('does not start without the file that is named, and needs none', async () => {
  const options = { variable: 'SIGNET_NAMESPACE_MAP', signal: AbortSignal.abort(), onError: () => undefined }
  await expect(followNamespaceMap({ ...options, path: path.join(dir, 'none') })).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringContaining('SIGNET_NAMESPACE_MAP'),
  })
  expect((await followNamespaceMap({ ...options, path: undefined }))()).toEqual({ version: 1, namespaces: {} })
})
