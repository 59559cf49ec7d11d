import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { CreateBucketCommand, ListBucketsCommand, S3Client } from '@aws-sdk/client-s3'
import { ensureObjectStore } from '#tools/s3/build.ts'
import { freePort } from './real-services.ts'

/** A real S3 store (versitygw on a folder) of the test's own that enforces object lock, in less than a second. */
export type TestObjectStore = {
  readonly endpoint: string
  readonly region: string
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string }
  readonly s3: S3Client
  /** Where it keeps objects: `BUCKET/KEY`. */
  readonly dir: string
  createBucket(name: string, options?: { lock?: boolean }): Promise<void>
  kill(): Promise<void>
  /** On the same folder and port, after `kill`. */
  restart(): Promise<void>
  stop(): Promise<void>
}

const START_DEADLINE_MS = 60_000

export async function startObjectStore(): Promise<TestObjectStore> {
  const binary = await ensureObjectStore()
  const dir = await mkdtemp(path.join(tmpdir(), 'signet-s3-'))
  const [objects, versions] = [path.join(dir, 'objects'), path.join(dir, 'versions')]
  await Promise.all([mkdir(objects), mkdir(versions)])
  const port = await freePort()
  const endpoint = `http://127.0.0.1:${port}`
  const region = 'us-east-1'
  const credentials = { accessKeyId: 'test', secretAccessKey: randomBytes(16).toString('hex') }
  const s3 = new S3Client({ endpoint, region, forcePathStyle: true, credentials, maxAttempts: 2 })

  const launch = async (): Promise<ChildProcess> => {
    const args = ['--port', `127.0.0.1:${port}`, '--region', region, 'posix', '--versioning-dir', versions, objects]
    const child = spawn(binary, args, {
      env: {
        PATH: process.env['PATH'],
        ROOT_ACCESS_KEY: credentials.accessKeyId,
        ROOT_SECRET_KEY: credentials.secretAccessKey,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    const keep = (chunk: Buffer): void => {
      output = (output + chunk.toString()).slice(-16_384)
    }
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
    for (const deadline = Date.now() + START_DEADLINE_MS; ;) {
      if (child.exitCode !== null) throw new Error(`the object store ended with ${child.exitCode}: ${output}`)
      const answers = await s3.send(new ListBucketsCommand({})).then(
        () => true,
        () => false,
      )
      if (answers) return child
      if (Date.now() > deadline) {
        child.kill('SIGKILL')
        throw new Error(`the object store did not start: ${output}`)
      }
      await sleep(50)
    }
  }

  let child = await launch()
  const kill = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  }
  return {
    endpoint,
    region,
    credentials,
    s3,
    dir: objects,
    async createBucket(name, { lock = true } = {}) {
      await s3.send(new CreateBucketCommand({ Bucket: name, ObjectLockEnabledForBucket: lock }))
    },
    kill,
    async restart() {
      child = await launch()
    },
    async stop() {
      await kill()
      s3.destroy()
      await rm(dir, { recursive: true, force: true })
    },
  }
}
