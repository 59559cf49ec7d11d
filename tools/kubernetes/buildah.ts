import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdir, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { runTool } from './run-tool.ts'

export type BuildOptions = {
  readonly context: string
  /** Text of the Dockerfile. */
  readonly dockerfile: string
  /** By target, what the image is called. */
  readonly targets: Readonly<Record<string, string>>
  readonly arguments?: Readonly<Record<string, string>>
  readonly contexts?: Readonly<Record<string, string>>
}
export type Buildah = {
  importFolder(image: string, folder: string): Promise<void>
  /** Builds all targets in one go: buildah copies again whatever it finds in its cache afterwards. */
  build(options: BuildOptions): Promise<void>
  /** All of them as one archive, an OCI image layout, for `ctr images import`: what they share is in it once. */
  save(images: readonly string[], file: string): Promise<void>
  /** Lets go of what is mounted. */
  close(): Promise<void>
}

const AT_ONCE = 'signet-all-at-once'
const MARK = 'signet.dev/test-build'

/** A Dockerfile whose last stage stands on all `targets`, each of which carries a label to be found by. */
export function buildAtOnce(dockerfile: string, targets: readonly string[], mark: string): string {
  const stages = dockerfile.split(/^(?=FROM )/m)
  const marked = stages.map((stage) => {
    const name = /^FROM .+ AS (\S+)\s*$/m.exec(stage)?.[1]
    return name !== undefined && targets.includes(name)
      ? `${stage.trimEnd()}\nLABEL ${MARK}=${mark}-${name}\n\n`
      : stage
  })
  const last = targets.map((target, index) => `COPY --from=${target} /etc/passwd /${index}`)
  return `${marked.join('').trimEnd()}\n\nFROM scratch AS ${AT_ONCE}\n${last.join('\n')}\n`
}

const BUILD_TIMEOUT_MS = 15 * 60_000
const STORAGE_MAX_AGE_MS = 3 * 24 * 60 * 60_000

/** buildah with a storage of its own below `folder`: its layers make the next build short. The kernel must have overlay mounts there. */
export async function openBuildah(folder: string): Promise<Buildah> {
  const storage = path.join(folder, 'storage')
  await unmountBelow(storage)
  const made = await stat(path.join(storage, 'root')).catch(() => null)
  if (made !== null && Date.now() - made.birthtimeMs > STORAGE_MAX_AGE_MS) await rm(storage, { recursive: true })
  await mkdir(storage, { recursive: true })
  const first = [
    '--root',
    path.join(storage, 'root'),
    '--runroot',
    path.join(storage, 'run'),
    '--storage-driver',
    'overlay',
  ]
  const run = (args: readonly string[]): Promise<string> =>
    runTool('buildah', [...first, ...args], { env: { BUILDAH_ISOLATION: 'chroot' }, timeoutMs: BUILD_TIMEOUT_MS })
  return {
    async importFolder(image, source) {
      const known = await run(['images', '--quiet', image]).catch(() => '')
      if (known.trim() !== '') return
      const container = (await run(['from', '--quiet', 'scratch'])).trim()
      await run(['copy', '--quiet', container, source, '/'])
      await run(['commit', '--quiet', '--rm', container, image])
    },
    async build({ context, dockerfile, targets, arguments: args = {}, contexts = {} }) {
      const mark = randomUUID()
      const file = path.join(storage, 'Dockerfile')
      await writeFile(file, buildAtOnce(dockerfile, Object.keys(targets), mark))
      await run([
        // Without layers, no stage but the last one becomes an image.
        'bud',
        '--quiet',
        '--pull-never',
        '--layers',
        '--ignorefile',
        path.join(context, '.dockerignore'),
        '--target',
        AT_ONCE,
        '--file',
        file,
        ...Object.entries(args).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]),
        ...Object.entries(contexts).flatMap(([name, value]) => ['--build-context', `${name}=${value}`]),
        context,
      ])
      for (const [target, image] of Object.entries(targets)) {
        const found = await run([
          'images',
          '--all',
          '--quiet',
          '--no-trunc',
          '--filter',
          `label=${MARK}=${mark}-${target}`,
        ])
        const [id] = found.trim().split('\n')
        if (!id) throw new Error(`the Dockerfile has no target ${target}`)
        await run(['tag', id, image])
      }
    },
    async save(images, file) {
      // Kept beside the layers: compressing them is most of the work.
      const layout = path.join(storage, 'layout')
      for (const image of images) await run(['push', '--quiet', image, `oci:${layout}:${image}`])
      await runTool('tar', ['--create', '--file', file, '--directory', layout, '.'])
    },
    async close() {
      await run(['rm', '--all']).catch(() => undefined)
      await unmountBelow(storage)
    },
  }
}

/** Unmounts everything below a folder, the innermost first. */
export async function unmountBelow(folder: string): Promise<void> {
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1]?.replaceAll('\\040', ' ') ?? '')
    .filter((where) => where === folder || where.startsWith(`${folder}/`))
  for (const where of mounts.toReversed()) {
    await runTool('umount', [where]).catch(() => runTool('umount', ['--lazy', where]).catch(() => undefined))
  }
}
