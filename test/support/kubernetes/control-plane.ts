import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { freePort } from '../real-services.ts'
import { startProgram, waitUntilReady, type Program, type ProgramOptions } from './child.ts'
import { createApiClient, type ApiClient } from './api-client.ts'
import { createWire, type Connect, type WireAnswer } from './wire.ts'

/** Who may enter by a static token: name, groups. */
export type StaticUser = { readonly name: string; readonly groups: readonly string[] }

const ADMIN: StaticUser = { name: 'signet-test-admin', groups: ['system:masters'] }
const START_TIMEOUT_MS = 120_000

export type ControlPlane = {
  readonly url: string
  /** PEM of the certificate authority that made the server's certificate. */
  readonly ca: string
  readonly token: string
  readonly client: ApiClient
  /** The static token of one of `users`. */
  tokenOf(name: string): string
  readonly programs: readonly Program[]
  readonly serviceAccountKeyFile: string
  readonly caFile: string
  /** The API server again, and with `etcd: true` that too, on the same ports and data. */
  readonly restart: (options?: { etcd?: boolean }) => Promise<void>
  /** Forgets old revisions, so that a watch from before gets 410 Gone after the next restart. */
  readonly compact: () => Promise<void>
  readonly kill: () => Promise<void>
}

export type ControlPlaneOptions = {
  readonly folder: string
  readonly binaries: { readonly etcd: string; readonly 'kube-apiserver': string }
  /** The address to listen on and to be reached at. */
  readonly address: string
  readonly users?: readonly StaticUser[]
  readonly extraArgs?: readonly string[]
  /** What a command is started with, such as `nsenter`. */
  readonly prefix?: readonly string[]
  /** Told after every start, in order that somebody can kill them when we cannot. */
  readonly onPrograms?: (programs: readonly Program[]) => void
  /** For processes in another network namespace, which a connection from here does not reach. */
  readonly connect?: Connect
}

/** etcd and kube-apiserver with RBAC, service-account tokens and the admission plugins that are on by default. */
export async function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const { folder, address } = options
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const [port, clientPort, peerPort] = [await freePort(), await freePort(), await freePort()]
  const etcdUrl = `http://127.0.0.1:${clientPort}`
  const url = `https://${address}:${port}`
  const serviceAccountKeyFile = path.join(folder, 'service-account.key')
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  await writeFile(serviceAccountKeyFile, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
  await writeFile(path.join(folder, 'service-account.pub'), publicKey.export({ type: 'spki', format: 'pem' }))
  const users = [ADMIN, ...(options.users ?? [])].map((user) => ({ ...user, token: randomBytes(24).toString('hex') }))
  const rows = users.map(({ name, groups, token }) => `${token},${name},${name},"${groups.join(',')}"`)
  await writeFile(path.join(folder, 'tokens.csv'), `${rows.join('\n')}\n`, { mode: 0o600 })

  const launch = (name: string, command: string, args: readonly string[]): Promise<Program> => {
    const [first = command, ...rest] = [...(options.prefix ?? []), command, ...args]
    const program: ProgramOptions = { name, command: first, args: rest, logFile: path.join(folder, `${name}.log`) }
    return startProgram(program)
  }
  const startEtcd = (): Promise<Program> =>
    launch('etcd', options.binaries.etcd, [
      '--data-dir',
      path.join(folder, 'etcd'),
      '--listen-client-urls',
      etcdUrl,
      '--advertise-client-urls',
      etcdUrl,
      '--listen-peer-urls',
      `http://127.0.0.1:${peerPort}`,
      '--initial-advertise-peer-urls',
      `http://127.0.0.1:${peerPort}`,
      '--initial-cluster',
      `default=http://127.0.0.1:${peerPort}`,
      '--unsafe-no-fsync',
    ])
  const startServer = (): Promise<Program> =>
    launch('kube-apiserver', options.binaries['kube-apiserver'], [
      `--etcd-servers=${etcdUrl}`,
      `--secure-port=${port}`,
      `--bind-address=${address}`,
      // It makes its own authority and certificate here, and finds them again.
      `--cert-dir=${path.join(folder, 'certificates')}`,
      `--service-account-key-file=${path.join(folder, 'service-account.pub')}`,
      `--service-account-signing-key-file=${serviceAccountKeyFile}`,
      '--service-account-issuer=https://kubernetes.default.svc',
      `--token-auth-file=${path.join(folder, 'tokens.csv')}`,
      '--authorization-mode=Node,RBAC',
      '--enable-admission-plugins=NodeRestriction',
      '--service-cluster-ip-range=10.96.0.0/16',
      '--anonymous-auth=true',
      '--allow-privileged=true',
      '--profiling=false',
      ...(address === '127.0.0.1' ? ['--advertise-address=127.0.0.1', '--endpoint-reconciler-type=none'] : []),
      ...(options.extraArgs ?? []),
    ])

  let etcd = await startEtcd()
  let server: Program
  try {
    server = await startServer()
  } catch (error) {
    await etcd.kill()
    throw error
  }
  const readCa = async (): Promise<string> => {
    const pem = await readFile(path.join(folder, 'certificates/apiserver.crt'), 'utf8')
    // The server's own certificate first, its authority last.
    const found = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/g) ?? []
    if (found.length < 2) throw new Error('no authority in apiserver.crt yet')
    return found.at(-1) ?? ''
  }
  const token = users[0]?.token ?? ''
  let ca = ''
  let client: ApiClient | undefined
  const waitForServer = (): Promise<void> =>
    waitUntilReady(
      'the API server was ready',
      [etcd, server],
      async () => {
        if (client === undefined) {
          ca = await readCa()
          const connect = options.connect === undefined ? {} : { connect: options.connect }
          client = createApiClient(url, token, createWire({ ca, ...connect }))
        }
        return (await client.request('GET', '/readyz')).status === 200
      },
      START_TIMEOUT_MS,
    )
  const kill = async (): Promise<void> => {
    client?.close()
    await Promise.all([server.kill(), etcd.kill()])
  }
  try {
    options.onPrograms?.([etcd, server])
    await waitForServer()
  } catch (error) {
    await kill()
    throw error
  }
  const caFile = path.join(folder, 'ca.crt')
  await writeFile(caFile, ca)
  return {
    url,
    ca,
    caFile,
    token,
    client: client as unknown as ApiClient,
    serviceAccountKeyFile,
    get programs() {
      return [etcd, server]
    },
    tokenOf(name) {
      const user = users.find((one) => one.name === name)
      if (user === undefined) throw new Error(`no static user ${name}`)
      return user.token
    },
    async restart({ etcd: also = false } = {}) {
      await server.kill()
      if (also) {
        await etcd.kill()
        etcd = await startEtcd()
      }
      server = await startServer()
      options.onPrograms?.([etcd, server])
      await waitForServer()
    },
    async compact() {
      const wire = createWire(options.connect === undefined ? {} : { connect: options.connect })
      const call = (method: string, body: object): Promise<WireAnswer> =>
        wire.send(`${etcdUrl}/v3/kv/${method}`, { method: 'POST', body: JSON.stringify(body) })
      const range = await call('range', { key: Buffer.from('/').toString('base64') })
      const { header } = range.json<{ header: { revision: string } }>()
      const answer = await call('compaction', { revision: header.revision, physical: true })
      wire.close()
      if (answer.status !== 200) throw new Error(`etcd did not compact: ${answer.text}`)
    },
    kill,
  }
}
