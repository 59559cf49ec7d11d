import { chmod, mkdir, mkdtemp, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ensureOpa } from './build.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'signet-ensure-opa-test-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

/** A `go` that counts its builds, waits, and makes a file where `-o` says. */
async function fakeGo(options: { version?: string; fails?: boolean } = {}): Promise<NodeJS.ProcessEnv> {
  const bin = join(directory, 'bin')
  await mkdir(bin, { recursive: true })
  const script = `#!/bin/sh
if [ "$1" = env ]; then echo ${options.version ?? 'go1.26.8'}; exit 0; fi
echo x >> "${directory}/builds"
echo "go: downloading example.com/x v1.0.0" >&2
sleep 0.3
${options.fails ? 'echo "no space left" >&2; exit 1' : ''}
while [ "$1" != -o ]; do shift; done
printf '#!/bin/sh\\n' > "$2" && chmod +x "$2"
`
  await writeFile(join(bin, 'go'), script)
  await chmod(join(bin, 'go'), 0o755)
  return { PATH: `${bin}:/usr/bin:/bin`, SIGNET_CACHE_DIR: join(directory, 'cache') }
}

const quiet = (): void => {}
const builds = async (): Promise<number> => (await readFile(join(directory, 'builds'), 'utf8')).length / 2

describe('ensureOpa', () => {
  it('builds once, says so, and finds the binary from then on', async () => {
    const env = await fakeGo()
    const lines: string[] = []
    const path = await ensureOpa({ env, onProgress: (line) => lines.push(line) })
    expect(path.startsWith(join(directory, 'cache', 'opa'))).toBe(true)
    expect((await stat(path)).mode & 0o111).not.toBe(0)
    expect(lines[0]).toMatch(/building OPA with go1\.26\.8/)
    expect(lines).toContain('building OPA: downloading example.com/x v1.0.0')
    const more: string[] = []
    expect(await ensureOpa({ env, onProgress: (line) => more.push(line) })).toBe(path)
    expect(more).toEqual([])
    expect(await builds()).toBe(1)
  })

  it('builds once for several that ask at the same time', async () => {
    const env = await fakeGo()
    const lines: string[] = []
    const paths = await Promise.all([1, 2, 3].map(() => ensureOpa({ env, onProgress: (line) => lines.push(line) })))
    expect(new Set(paths).size).toBe(1)
    expect(await builds()).toBe(1)
    expect(lines).toContain('waiting for another process that is building OPA')
  })

  it('takes over from a process that died', async () => {
    const env = await fakeGo()
    const path = await ensureOpa({ env, onProgress: quiet })
    await rm(path)
    const lock = join(path, '..', 'lock')
    await writeFile(lock, '1')
    const longAgo = new Date(Date.now() - 60_000)
    await utimes(lock, longAgo, longAgo)
    expect(await ensureOpa({ env, onProgress: quiet })).toBe(path)
    await expect(stat(lock)).rejects.toThrow(/ENOENT/)
  })

  it('leaves nothing usable behind when the build fails, and tries again', async () => {
    const env = await fakeGo({ fails: true })
    await expect(ensureOpa({ env, onProgress: quiet })).rejects.toMatchObject({
      code: 'OPA_UNAVAILABLE',
      message: expect.stringContaining('no space left') as string,
    })
    await fakeGo()
    await expect(ensureOpa({ env, onProgress: quiet })).resolves.toMatch(/opa$/)
  })

  it.each([
    [
      'is missing',
      undefined,
      /^Go 1\.26 or newer is needed to build OPA; install it .* or set SIGNET_OPA=\/path\/to\/opa$/,
    ],
    ['is too old', 'go1.25.9', /^Go 1\.26 or newer is needed.*found go1\.25\.9/],
  ])('says in one line when Go %s', async (_, version, want) => {
    const env = version === undefined ? { PATH: directory, SIGNET_CACHE_DIR: directory } : await fakeGo({ version })
    await expect(ensureOpa({ env, onProgress: quiet })).rejects.toMatchObject({
      code: 'OPA_UNAVAILABLE',
      message: expect.stringMatching(want) as string,
    })
  })

  it('takes the binary that SIGNET_OPA names, if it can be run', async () => {
    const binary = join(directory, 'my-opa')
    await symlink('/bin/sh', binary)
    expect(await ensureOpa({ env: { SIGNET_OPA: binary } })).toBe(binary)
    await expect(ensureOpa({ env: { SIGNET_OPA: join(directory, 'none') } })).rejects.toMatchObject({
      code: 'OPA_UNAVAILABLE',
    })
  })
})
