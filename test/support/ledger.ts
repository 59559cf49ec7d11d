import { spawn, type ChildProcess } from 'node:child_process'
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { migrateWall, migrateWork, OWNER_ROLE } from '#ledger/store/migrations.ts'
import type { Keyring } from '#core/keyring/schema.ts'
import { startEmbeddedPostgres, type EmbeddedPostgres } from '#runtime/postgres/embedded.ts'
import { provisionDatabase } from '#runtime/postgres/provision.ts'

/**
 * A ledger as in production, for tests: two real PostgreSQL servers (the wall and the work database), roles, migrations, keyring and
 * token file in a folder of their own, and the ledger as a child process. One stack a test file:
 *
 *   const stack = await startLedgerStack()                 // about 2 s
 *   const ledger = stack.ledgers[0]                        // { url, child, stop(), kill() }
 *   fetch(`${ledger.url}/api/audit/logs`, { headers: { authorization: `Bearer ${stack.token('auditor')}` } })
 *   await stack.stop()
 */
export type LedgerStack = {
  readonly dir: string
  readonly ledgers: LedgerProcess[]
  /** Parsed keyring, and its file: a chain key `chain-1`, an ack key `ack-1`, a stamp key per producer. */
  readonly keyring: Keyring
  readonly keyringFile: string
  readonly tokensFile: string
  /** The bearer token of one of `identities`. */
  token(name: string): string
  readonly wall: TestDatabase
  readonly work: TestDatabase
  /** Another ledger process on the same databases. `main`: the program of another version. */
  startLedger(options?: { port?: number; env?: Record<string, string>; main?: string }): Promise<LedgerProcess>
  stop(): Promise<void>
}
export type TestDatabase = {
  server: EmbeddedPostgres
  /** As the ledger's login (INSERT and SELECT), as superuser. */
  readonly loginUrl: string
  readonly adminUrl: string
  /** Starts the server again on its folder and port, after `server.kill` or `server.stop`. */
  restart(): Promise<void>
}
export type LedgerProcess = {
  readonly url: string
  readonly port: number
  readonly child: ChildProcess
  /** What it logged, the last 64 KiB. */
  output(): string
  /** SIGTERM and the end of it. @throws when it did not leave with 0 */
  stop(): Promise<void>
  kill(): Promise<void>
}
export type TestIdentity = {
  name: string
  tenant: string
  tenants?: '*' | string[]
  producer_id?: string
  scopes: string[]
}

const DEFAULT_IDENTITIES: readonly TestIdentity[] = [
  { name: 'proxy', tenant: 'acme', producer_id: 'demo/api', scopes: ['audit:write', 'audit:read'] },
  { name: 'second', tenant: 'acme', producer_id: 'demo/second', scopes: ['audit:write'] },
  { name: 'auditor', tenant: 'acme', scopes: ['audit:read'] },
  { name: 'globex-proxy', tenant: 'globex', producer_id: 'demo/api', scopes: ['audit:write', 'audit:read'] },
]

const LEDGER_MAIN = path.join(import.meta.dirname, '../../ledger/main.ts')
const PASSWORDS = { admin: 'admin of a test', ledger: 'ledger of a test' }

export async function startLedgerStack(
  options: { identities?: readonly TestIdentity[]; ledgers?: number; wallLog?: boolean } = {},
): Promise<LedgerStack> {
  const identities = options.identities ?? DEFAULT_IDENTITIES
  const dir = await mkdtemp(path.join(tmpdir(), 'signet-ledger-'))
  // PostgreSQL does not run as root; its account has to be able to pass through.
  await chmod(dir, 0o711)
  const stopping: (() => Promise<void>)[] = []
  const stop = async (): Promise<void> => {
    for (const one of stopping.toReversed()) await one()
    await rm(dir, { recursive: true, force: true })
  }
  try {
    const [wall, work] = await Promise.all([startDatabase(dir, 'wall', options.wallLog), startDatabase(dir, 'work')])
    stopping.push(
      () => wall.server.stop(),
      () => work.server.stop(),
    )
    await migrateWall(wall.adminUrl)
    await migrateWork(work.adminUrl)

    const keyring = makeKeyring(identities)
    const keyringFile = path.join(dir, 'keyring.json')
    await writeFile(keyringFile, JSON.stringify(keyring), { mode: 0o600 })
    const tokens = new Map(identities.map(({ name }) => [name, randomBytes(24).toString('base64url')]))
    const tokensFile = path.join(dir, 'tokens.json')
    await writeFile(tokensFile, JSON.stringify(tokenFile(identities, tokens)), { mode: 0o600 })

    const stack: LedgerStack = {
      dir,
      ledgers: [],
      keyring,
      keyringFile,
      tokensFile,
      token(name) {
        const token = tokens.get(name)
        if (token === undefined) throw new Error(`no test identity ${name}`)
        return token
      },
      wall,
      work,
      async startLedger({ port = 0, env = {}, main = LEDGER_MAIN } = {}) {
        const ledger = await spawnLedger(main, {
          SIGNET_LEDGER_AUDIT_DB_URL: wall.loginUrl,
          SIGNET_LEDGER_STATE_URL: work.loginUrl,
          SIGNET_LEDGER_LISTEN: `127.0.0.1:${port}`,
          SIGNET_LEDGER_KEYRING: keyringFile,
          SIGNET_LEDGER_TOKENS: tokensFile,
          ...env,
        })
        stopping.push(() => ledger.kill())
        stack.ledgers.push(ledger)
        return ledger
      },
      stop,
    }
    for (let count = 0; count < (options.ledgers ?? 1); count++) await stack.startLedger()
    return stack
  } catch (error) {
    await stop()
    throw error
  }
}

async function startDatabase(dir: string, name: string, jsonLog = false): Promise<TestDatabase> {
  const dataDir = path.join(dir, name)
  const server = await startEmbeddedPostgres({ dataDir, superuserPassword: PASSWORDS.admin, jsonLog })
  const database = `signet_${name}`
  await provisionDatabase({
    adminUrl: server.url('postgres', 'postgres', PASSWORDS.admin),
    database,
    ownerRole: OWNER_ROLE,
    loginRole: 'signet_ledger',
    loginPassword: PASSWORDS.ledger,
  })
  const test: TestDatabase = {
    server,
    loginUrl: server.url(database, 'signet_ledger', PASSWORDS.ledger),
    // One who goes around the wall's event triggers, as tests of tampering do.
    adminUrl: `${server.url(database, 'postgres', PASSWORDS.admin)}${name === 'wall' ? '?options=-c%20event_triggers%3Doff' : ''}`,
    async restart() {
      const port = server.port
      test.server = await startEmbeddedPostgres({ dataDir, port, superuserPassword: PASSWORDS.admin, jsonLog })
    },
  }
  return test
}

async function spawnLedger(main: string, env: Record<string, string>): Promise<LedgerProcess> {
  const child = spawn(process.execPath, [main], {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  let output = ''
  const keep = (chunk: Buffer): void => {
    output = (output + chunk.toString()).slice(-64 * 1024)
  }
  child.stdout?.on('data', keep)
  child.stderr?.on('data', keep)
  const exited = once(child, 'exit')
  const url = await new Promise<string>((resolve, reject) => {
    child.once('message', (message: { listening: string }) => resolve(message.listening))
    child.once('error', reject)
    child.once('exit', (status) => reject(new Error(`the ledger ended with ${status} before it listened:\n${output}`)))
  })
  const ended = (): boolean => child.exitCode !== null || child.signalCode !== null
  return {
    url,
    port: Number(new URL(url).port),
    child,
    output: () => output,
    async stop() {
      if (!ended()) child.kill('SIGTERM')
      await exited
      if (child.exitCode !== 0)
        throw new Error(`the ledger ended with ${child.exitCode ?? child.signalCode}:\n${output}`)
    },
    async kill() {
      if (!ended()) child.kill('SIGKILL')
      await exited
    },
  }
}

function tokenFile(identities: readonly TestIdentity[], tokens: ReadonlyMap<string, string>): unknown {
  const digest = (token: string): string => createHash('sha256').update(token).digest('hex')
  return {
    version: 1,
    tokens: identities.map((identity) => ({ ...identity, sha256: digest(tokens.get(identity.name) ?? '') })),
  }
}

function makeKeyring(identities: readonly TestIdentity[]): Keyring {
  const validity = { not_before: '2020-01-01T00:00:00.000Z', not_after: '2100-01-01T00:00:00.000Z' }
  const secret = (): string => randomBytes(32).toString('base64url')
  const pair = generateKeyPairSync('ed25519')
  const producers = identities.flatMap(({ tenant, producer_id }) =>
    producer_id === undefined ? [] : [{ tenant, producer_id }],
  )
  return {
    version: 1,
    keys: [
      { use: 'chain', alg: 'HMAC-SHA256', key_id: 'chain-1', secret: secret(), ...validity },
      { use: 'seal-master', alg: 'XAES-256-GCM', key_id: 'seal-1', secret: secret(), ...validity },
      {
        use: 'ack',
        alg: 'Ed25519',
        key_id: 'ack-1',
        public_key: pair.publicKey.export({ type: 'spki', format: 'der' }).toString('base64url'),
        private_key: pair.privateKey.export({ type: 'pkcs8', format: 'der' }).toString('base64url'),
        ...validity,
      },
      ...producers.map(
        ({ tenant, producer_id }, index) =>
          ({
            use: 'stamp',
            alg: 'HMAC-SHA256',
            key_id: `stamp-${index + 1}`,
            tenant,
            producer_id,
            secret: secret(),
            ...validity,
          }) as const,
      ),
    ],
  }
}
