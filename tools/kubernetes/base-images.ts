import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { access, cp, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { cacheDirectory } from '#tools/go/build.ts'
import { acquireLock } from '#tools/go/lock.ts'
import { runTool } from './run-tool.ts'

export type BaseFolders = {
  /** Root file system with glibc, libstdc++ and CA certificates, no shell: as the published base is. */
  readonly bare: string
  /** The Debian that it was taken from: a shell and nft too. */
  readonly debian: string
}

const PACKAGES = ['ca-certificates', 'libstdc++6', 'nftables']
// Counted up when what is made of the packages changes.
const FORMAT = 1
const MAX_AGE_DAYS = 30

// What a distroless base holds, for Node and for the OPA binary.
const BARE_FILES = [
  'etc/ssl/certs/ca-certificates.crt',
  'etc/nsswitch.conf',
  'etc/os-release',
  'usr/lib/os-release',
  'usr/share/zoneinfo/UTC',
]
const BARE_LIBRARIES = /^(ld-linux-.*|lib(c|m|dl|pthread|rt|resolv|nss_(dns|files)|gcc_s|stdc\+\+)\.so[.\d]*)$/

/** Makes both once a month from the machine's own Debian packages. @throws an Error that says what to install */
export async function ensureBaseFolders(options: {
  env: NodeJS.ProcessEnv
  onProgress: (line: string) => void
}): Promise<BaseFolders> {
  const sources = debianSources()
  const month = Math.floor(Date.now() / (MAX_AGE_DAYS * 86_400_000))
  const key = createHash('sha256')
    .update([FORMAT, ...PACKAGES, sources.suite, process.arch, month].join('\0'))
    .digest('hex')
    .slice(0, 16)
  const directory = path.join(cacheDirectory(options.env), 'image-base', key)
  const folders = { bare: path.join(directory, 'made/bare'), debian: path.join(directory, 'made/debian') }
  const isDone = (): Promise<boolean> =>
    access(folders.bare).then(
      () => true,
      () => false,
    )
  if (await isDone()) return folders
  await mkdir(directory, { recursive: true })
  const release = await acquireLock(path.join(directory, 'lock'), {
    isDone,
    onWait: () => options.onProgress('waiting for another process that is making the base image'),
  })
  if (release === null) return folders
  try {
    if (await isDone()) return folders
    options.onProgress('making the base image from Debian packages (once a month; about half a minute)')
    const temporary = await mkdtemp(path.join(directory, 'make-'))
    try {
      await makeDebian(path.join(temporary, 'debian'), sources)
      await makeBare(path.join(temporary, 'debian'), path.join(temporary, 'bare'))
      await rename(temporary, path.join(directory, 'made'))
    } finally {
      await rm(temporary, { recursive: true, force: true })
    }
    return folders
  } finally {
    await release()
  }
}

type Sources = { readonly suite: string; readonly files: readonly string[] }

/** The package sources that this machine itself uses. */
function debianSources(): Sources {
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : ''
  const suite = /^VERSION_CODENAME=(\w+)/m.exec(release)?.[1]
  if (!/^ID=debian$/m.test(release) || suite === undefined) {
    throw new Error('images under test are made of the packages of a Debian machine, and this is none')
  }
  const known = ['/etc/apt/sources.list.d/debian.sources', '/etc/apt/sources.list']
  const found = known.find((file) => existsSync(file))
  return { suite, files: found === undefined ? [] : [found] }
}

async function makeDebian(folder: string, { suite, files }: Sources): Promise<void> {
  const excluded = ['/usr/share/doc/*', '/usr/share/man/*', '/usr/share/locale/*', '/usr/share/info/*']
  await runTool('mmdebstrap', [
    '--mode=root',
    '--variant=essential',
    '--format=directory',
    `--include=${PACKAGES.join(',')}`,
    ...excluded.map((pattern) => `--dpkgopt=path-exclude=${pattern}`),
    suite,
    folder,
    ...files,
  ])
  await writeFile(path.join(folder, 'etc/nsswitch.conf'), 'hosts: files dns\npasswd: files\ngroup: files\n')
}

async function makeBare(debian: string, bare: string): Promise<void> {
  const triplet = (await readdir(path.join(debian, 'usr/lib'))).find((name) => name.endsWith('-linux-gnu'))
  if (triplet === undefined) throw new Error('the Debian packages hold no library folder')
  const libraries = (await readdir(path.join(debian, 'usr/lib', triplet)))
    .filter((name) => BARE_LIBRARIES.test(name))
    .map((name) => path.join('usr/lib', triplet, name))
  const loaders = (await readdir(path.join(debian, 'usr/lib64')).catch(() => [])).map((name) => `usr/lib64/${name}`)
  for (const name of ['lib', 'lib64', ...BARE_FILES, ...libraries, ...loaders]) {
    if (!existsSync(path.join(debian, name)) && !loaders.includes(name)) continue
    await mkdir(path.dirname(path.join(bare, name)), { recursive: true })
    await cp(path.join(debian, name), path.join(bare, name), { verbatimSymlinks: true })
  }
  for (const name of ['usr/lib64', 'proc', 'sys', 'dev', 'run', 'var/lib', 'root', 'home']) {
    await mkdir(path.join(bare, name), { recursive: true })
  }
  await mkdir(path.join(bare, 'tmp'), { mode: 0o1777 })
  await writeFile(
    path.join(bare, 'etc/passwd'),
    'root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home:/sbin/nologin\n',
  )
  await writeFile(path.join(bare, 'etc/group'), 'root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n')
}
