import { readFile } from 'node:fs/promises'
import { beforeAll, describe, expect, it } from 'vitest'
import { ensureOpa } from './build.ts'
import { CAPABILITIES_PATH, generateCapabilities } from './generate-capabilities.ts'

let opa: string
beforeAll(async () => {
  opa = await ensureOpa()
}, 600_000)

describe('capabilities.json', () => {
  it('is what the pinned OPA generates; else run: node tools/opa/generate-capabilities.ts', async () => {
    // Compared as values: the formatter lays the file out.
    const want: unknown = JSON.parse(await generateCapabilities(opa))
    expect(JSON.parse(await readFile(CAPABILITIES_PATH, 'utf8'))).toEqual(want)
  })

  it('allows no built-in that needs a host, the network, randomness or a clock, nor what prints otherwise than OPA', async () => {
    const { builtins, allow_net: allowNet } = JSON.parse(await readFile(CAPABILITIES_PATH, 'utf8')) as {
      builtins: { name: string }[]
      allow_net: string[]
    }
    const names = builtins.map((builtin) => builtin.name)
    expect(allowNet).toEqual([])
    expect(
      names.filter((name) =>
        /^(http|crypto|io\.jwt|time|rand|uuid|opa|yaml|net\.lookup|sprintf|json\.marshal)/.test(name),
      ),
    ).toEqual([])
    // Those that rules cannot do without.
    for (const name of [
      'concat',
      'regex.match',
      'internal.template_string',
      'internal.member_2',
      'startswith',
      'count',
    ]) {
      expect(names).toContain(name)
    }
  })
})
