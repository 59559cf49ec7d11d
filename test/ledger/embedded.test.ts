import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { networkInterfaces, tmpdir } from 'node:os'
import path from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startEmbeddedPostgres } from '#runtime/postgres/embedded.ts'
import { canEnter, processesIn } from '#runtime/postgres/placement.ts'

const PASSWORD = "a password with a space, an @ and a '"
let dir: string

beforeAll(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'signet-postgres-'))
  await chmod(dir, 0o711)
})
afterAll(() => rm(dir, { recursive: true, force: true }))

async function ask(url: string, sql: string): Promise<unknown> {
  const client = new pg.Client(url)
  client.on('error', () => undefined)
  await client.connect()
  try {
    return (await client.query(sql)).rows[0]
  } finally {
    await client.end()
  }
}

test('data outlives stop, kill -9 and a start in between; fsync is on; a password is needed', async () => {
  const dataDir = path.join(dir, 'keeps')
  const first = await startEmbeddedPostgres({ dataDir, superuserPassword: PASSWORD })
  const url = first.url('postgres', 'postgres', PASSWORD)
  expect(await ask(url, 'SHOW fsync')).toEqual({ fsync: 'on' })
  await ask(url, 'CREATE TABLE t AS SELECT 1 AS x')
  await expect(ask(first.url('postgres', 'postgres', 'wrong'), 'SELECT 1')).rejects.toThrow(
    'password authentication failed',
  )
  await first.stop()
  await expect(ask(url, 'SELECT 1')).rejects.toThrow()

  const second = await startEmbeddedPostgres({ dataDir, port: first.port, superuserPassword: PASSWORD })
  expect(await ask(url, 'SELECT x FROM t')).toEqual({ x: 1 })
  await second.kill('SIGKILL')

  const third = await startEmbeddedPostgres({ dataDir, port: first.port, superuserPassword: PASSWORD })
  expect(await ask(url, 'SELECT x FROM t')).toEqual({ x: 1 })
  await third.stop()
})

test('listens on all addresses where it is told to, and asks for a password there too', async () => {
  const addresses = Object.values(networkInterfaces()).flatMap((each) => each ?? [])
  // A machine without a network has its loopback addresses alone.
  const address = addresses.find(({ family, internal }) => family === 'IPv4' && !internal)?.address ?? '127.0.0.2'
  const closed = await startEmbeddedPostgres({ dataDir: path.join(dir, 'closed'), superuserPassword: PASSWORD })
  const at = (url: string): string => url.replace('127.0.0.1', address)
  await expect(ask(at(closed.url('postgres', 'postgres', PASSWORD)), 'SELECT 1')).rejects.toThrow('ECONNREFUSED')
  await closed.stop()
  const open = await startEmbeddedPostgres({
    dataDir: path.join(dir, 'closed'),
    superuserPassword: PASSWORD,
    listen: '*',
  })
  expect(await ask(at(open.url('postgres', 'postgres', PASSWORD)), 'SELECT 1 AS x')).toEqual({ x: 1 })
  await expect(ask(at(open.url('postgres', 'postgres', 'wrong')), 'SELECT 1')).rejects.toThrow(
    'password authentication failed',
  )
  await open.stop()
})

test('a stale postmaster.pid whose number is another process now does not keep it from starting', async () => {
  const dataDir = path.join(dir, 'stale')
  const first = await startEmbeddedPostgres({ dataDir, superuserPassword: PASSWORD })
  await first.stop()
  await writeFile(path.join(first.dataDir, 'data/postmaster.pid'), `${process.pid}\n`)
  const second = await startEmbeddedPostgres({ dataDir, superuserPassword: PASSWORD })
  await second.stop()
})

test('a port in use is said so', async () => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  const address = taken.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const start = startEmbeddedPostgres({ dataDir: path.join(dir, 'port'), port, superuserPassword: PASSWORD })
  await expect(start).rejects.toMatchObject({ code: 'PORT_IN_USE', message: expect.stringContaining(String(port)) })
  taken.close()
})

test.each(['SIGKILL', 'SIGTERM'] as const)(
  'when the process that started it dies of %s, the server stops',
  async (signal) => {
    const dataDir = path.join(dir, `orphan-${signal}`)
    const program = `
    import { startEmbeddedPostgres } from '#runtime/postgres/embedded.ts'
    const server = await startEmbeddedPostgres({ dataDir: ${JSON.stringify(dataDir)}, superuserPassword: 'x' })
    process.send(server.dataDir)
    setInterval(() => undefined, 1000)`
    const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', program], {
      cwd: path.join(import.meta.dirname, '../..'),
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    const [started] = (await once(child, 'message')) as [string]
    const data = path.join(started, 'data')
    expect((await processesIn(data)).length).toBeGreaterThan(0)
    child.kill(signal)
    await once(child, 'exit')
    await expect.poll(async () => (await processesIn(data)).length, { timeout: 10_000 }).toBe(0)
  },
)

test('whether an account may enter a folder is told by every folder above it', async () => {
  const account = { uid: 65_533, gid: 65_533 }
  const closed = path.join(dir, 'closed')
  expect(await canEnter(dir, account)).toBe(true)
  await mkdir(path.join(closed, 'inner'), { recursive: true })
  await chmod(closed, 0o700)
  expect(await canEnter(path.join(closed, 'inner'), account)).toBe(false)
  expect(await canEnter(path.join(closed, 'inner'), null)).toBe(true)
})
