import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { ensureKubernetesTool } from './build.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'signet-kubernetes-build-test-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

/** A `go` that writes down how it was called and makes a file where `-o` says; and a `pkg-config` that knows everything or nothing. */
async function fakeTools(options: { seccomp: boolean }): Promise<NodeJS.ProcessEnv> {
  const bin = path.join(directory, 'bin')
  await mkdir(bin, { recursive: true })
  const go = `#!/bin/sh
if [ "$1" = env ]; then echo go1.26.8; exit 0; fi
echo "CGO_ENABLED=$CGO_ENABLED $*" >> "${directory}/calls"
while [ "$1" != -o ]; do shift; done
printf '#!/bin/sh\\n' > "$2" && chmod +x "$2"
`
  const programs = { go, 'pkg-config': `#!/bin/sh\nexit ${options.seccomp ? 0 : 1}\n` }
  for (const [name, script] of Object.entries(programs)) {
    await writeFile(path.join(bin, name), script)
    await chmod(path.join(bin, name), 0o755)
  }
  return { PATH: `${bin}:/usr/bin:/bin`, SIGNET_CACHE_DIR: path.join(directory, 'cache') }
}

const quiet = (): void => {}
const calls = (): Promise<string> => readFile(path.join(directory, 'calls'), 'utf8')

it('builds the API server with the version that it is to report, once', async () => {
  const env = await fakeTools({ seccomp: true })
  const lines: string[] = []
  const binary = await ensureKubernetesTool('kube-apiserver', { env, onProgress: (line) => lines.push(line) })
  expect(await ensureKubernetesTool('kube-apiserver', { env, onProgress: quiet })).toBe(binary)
  expect(path.basename(binary)).toBe('kube-apiserver')
  expect((await calls()).match(/CGO_ENABLED=0 build/g)).toHaveLength(1)
  expect(await calls()).toMatch(
    /-X k8s\.io\/component-base\/version\.gitVersion=v1\.37\.\d+ .*k8s\.io\/kubernetes\/cmd\/kube-apiserver$/m,
  )
  expect(lines).toEqual([
    expect.stringMatching(/^building kube-apiserver with go1\.26\.8 \(once; /),
    expect.stringMatching(/^built kube-apiserver in \d+ s$/),
  ])
})

it('builds runc with seccomp, and says in one line what that needs', async () => {
  await expect(
    ensureKubernetesTool('runc', { env: await fakeTools({ seccomp: false }), onProgress: quiet }),
  ).rejects.toThrow(
    /^a C compiler, pkg-config and the libseccomp headers .*apt-get install gcc pkg-config libseccomp-dev\)$/,
  )
  await ensureKubernetesTool('runc', { env: await fakeTools({ seccomp: true }), onProgress: quiet })
  expect(await calls()).toMatch(/^CGO_ENABLED=1 build -trimpath -tags seccomp /)
})

it('takes the folder that SIGNET_KUBERNETES_BIN names, if the tool is in it', async () => {
  await symlink('/bin/sh', path.join(directory, 'etcd'))
  const env = { SIGNET_KUBERNETES_BIN: directory }
  expect(await ensureKubernetesTool('etcd', { env })).toBe(path.join(directory, 'etcd'))
  await expect(ensureKubernetesTool('kubectl', { env })).rejects.toThrow(/holds no executable file kubectl$/)
})
