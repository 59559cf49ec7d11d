import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { JWK } from 'jose'
import { indexKeyring, parseKeyring, type KeyIndex } from '#core/keyring/keyring.ts'
import type { BundleModule } from '#engine/bundle/build.ts'
import { generateBundleKey, signBundle } from '#engine/bundle/sign.ts'
import { readStandardPack } from '#engine/bundle/standard.ts'
import type { TrustRoot } from '#engine/bundle/trust.ts'
import { compileModule, type RuleSource } from '#engine/compile/compile.ts'
import { ensureOpa } from '#tools/opa/build.ts'

const ROOT = path.join(import.meta.dirname, '../..')
export const STANDARD_PACK = path.join(ROOT, 'policies/dist/standard')

/** What the proxy needs of a ledger: where it is, a token, and its public acknowledgement key as a keyring entry. */
export type LedgerAccess = { readonly url: string; readonly token: string; readonly ackKey: object | null }

export type ProxyStackOptions = {
  readonly upstream: string
  readonly ledger: LedgerAccess
  /** `standard` (the shipped pack, the default) or rules compiled here with the real OPA. */
  readonly rules?: 'standard' | readonly RuleSource[]
  readonly policyData?: unknown
  readonly env?: Record<string, string>
  /** `taskset` CPU list; anywhere where unset. */
  readonly cpus?: string
}

/**
 * The proxy as a child process, with keys, a signed bundle and a spool in a folder of its own:
 *
 *   const stack = await startProxyStack({ upstream: upstream.url, ledger: fake })
 *   await fetch(`${stack.external}/customers`)
 *   await stack.stop()
 */
export type ProxyStack = {
  readonly dir: string
  readonly external: string
  readonly internal: string
  readonly admin: string
  readonly keyringFile: string
  readonly keyring: KeyIndex
  readonly spoolDir: string
  readonly child: ChildProcess
  readonly tenant: string
  readonly producerId: string
  output(): string
  /** Publishes new rules, or raw bytes in the bundle's place, to the file that the proxy watches. */
  publish(
    rules: 'standard' | readonly RuleSource[] | Buffer,
    options?: { sequence?: number; expiresAt?: Date; key?: JWK; scope?: string },
  ): Promise<void>
  setPolicyData(data: unknown): Promise<void>
  metrics(): Promise<string>
  /** The value of one sample, 0 where it is not there: `sample('stamps_issued_total{tenant="acme"}')`. */
  sample(name: string): Promise<number>
  ready(timeoutMs?: number): Promise<void>
  /** Starts the proxy again on the same folder, after `kill` or `stop`. */
  restart(env?: Record<string, string>): Promise<ProxyStack>
  kill(): Promise<void>
  /** SIGTERM, and the folder is removed. */
  stop(): Promise<void>
}

const TENANT = 'acme'
const PRODUCER = 'demo/api'

export async function modulesOf(rules: 'standard' | readonly RuleSource[]): Promise<readonly BundleModule[]> {
  if (rules === 'standard') return readStandardPack(STANDARD_PACK)
  const opa = await ensureOpa({})
  return [await compileModule({ scope: 'root', sources: [...rules], opa, timeoutMs: 60_000 })]
}

export async function startProxyStack(options: ProxyStackOptions): Promise<ProxyStack> {
  const dir = await mkdtemp(path.join(tmpdir(), 'signet-proxy-'))
  const bundleKey = await generateBundleKey()
  const files = {
    keyring: path.join(dir, 'keyring.json'),
    trust: path.join(dir, 'trust.json'),
    bundle: path.join(dir, 'bundle.tar.gz'),
    token: path.join(dir, 'token'),
    data: path.join(dir, 'policy-data.json'),
  }
  const keyringText = JSON.stringify({
    version: 1,
    keys: [
      {
        use: 'stamp',
        alg: 'HMAC-SHA256',
        key_id: 'stamp-1',
        producer_id: PRODUCER,
        tenant: TENANT,
        secret: randomBytes(32).toString('base64url'),
        not_before: '2020-01-01T00:00:00.000Z',
        not_after: '2100-01-01T00:00:00.000Z',
      },
      ...(options.ledger.ackKey === null ? [] : [options.ledger.ackKey]),
    ],
  })
  await writeFile(files.keyring, keyringText, { mode: 0o600 })
  await writeFile(files.trust, JSON.stringify(bundleKey.trust))
  await writeFile(files.token, options.ledger.token, { mode: 0o600 })
  await writeFile(files.data, JSON.stringify(options.policyData ?? { version: 1 }))
  await writeBundle(files.bundle, bundleKey, options.rules ?? 'standard', {})
  return launch(options, dir, files, bundleKey, indexKeyring(parseKeyring(keyringText)), {})
}

type Files = { keyring: string; trust: string; bundle: string; token: string; data: string }
type BundleKey = { key: JWK; trust: TrustRoot }

async function writeBundle(
  file: string,
  bundleKey: BundleKey,
  rules: 'standard' | readonly RuleSource[] | Buffer,
  options: { sequence?: number; expiresAt?: Date; key?: JWK; scope?: string },
): Promise<void> {
  const bytes = Buffer.isBuffer(rules)
    ? rules
    : await signBundle({
        modules: await modulesOf(rules),
        policy: {},
        scope: options.scope ?? '*',
        sequence: options.sequence ?? 1,
        issuedAt: new Date(Date.now() - 60_000),
        expiresAt: options.expiresAt ?? new Date(Date.now() + 86_400_000),
        key: options.key ?? bundleKey.key,
      })
  await writeFile(file, bytes)
}

async function launch(
  options: ProxyStackOptions,
  dir: string,
  files: Files,
  bundleKey: BundleKey,
  keyring: KeyIndex,
  extraEnv: Record<string, string>,
): Promise<ProxyStack> {
  const spoolDir = path.join(dir, 'spool')
  // With the options of the image (`Dockerfile`).
  const command = [process.execPath, '--max-semi-space-size=8', path.join(ROOT, 'proxy/main.ts')]
  if (options.cpus !== undefined) command.unshift('taskset', '-c', options.cpus)
  const child = spawn(command[0] as string, command.slice(1), {
    env: {
      PATH: process.env['PATH'],
      SIGNET_UPSTREAM: options.upstream,
      SIGNET_EXTERNAL_LISTEN: '127.0.0.1:0',
      SIGNET_INTERNAL_LISTEN: '127.0.0.1:0',
      SIGNET_ADMIN_LISTEN: '127.0.0.1:0',
      SIGNET_TENANT: TENANT,
      SIGNET_PRODUCER_ID: PRODUCER,
      SIGNET_KEYRING: files.keyring,
      SIGNET_LEDGER_URL: options.ledger.url,
      SIGNET_LEDGER_TOKEN_FILE: files.token,
      SIGNET_SPOOL_DIR: spoolDir,
      SIGNET_BUNDLE: files.bundle,
      SIGNET_BUNDLE_TRUST: files.trust,
      SIGNET_BUNDLE_POLL_MS: '200',
      SIGNET_POLICY_DATA: files.data,
      SIGNET_DRAIN_MS: '2000',
      ...options.env,
      ...extraEnv,
    },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  let output = ''
  const keep = (chunk: Buffer): void => {
    output = (output + chunk.toString()).slice(-256 * 1024)
  }
  child.stdout?.on('data', keep)
  child.stderr?.on('data', keep)
  const exited = once(child, 'exit')
  const listening = await new Promise<Record<string, string>>((resolve, reject) => {
    child.once('message', (message: { listening: Record<string, string> }) => resolve(message.listening))
    child.once('error', reject)
    child.once('exit', (status) => reject(new Error(`the proxy ended with ${status} before it listened:\n${output}`)))
  })
  const ended = (): boolean => child.exitCode !== null || child.signalCode !== null
  const stack: ProxyStack = {
    dir,
    external: listening['SIGNET_EXTERNAL_LISTEN'] as string,
    internal: listening['SIGNET_INTERNAL_LISTEN'] as string,
    admin: listening['SIGNET_ADMIN_LISTEN'] as string,
    keyringFile: files.keyring,
    keyring,
    spoolDir,
    child,
    tenant: TENANT,
    producerId: PRODUCER,
    output: () => output,
    publish: (rules, bundleOptions = {}) => writeBundle(files.bundle, bundleKey, rules, bundleOptions),
    setPolicyData: (data) => writeFile(files.data, JSON.stringify(data)),
    metrics: async () => (await fetch(`${stack.admin}/metrics`)).text(),
    async sample(name) {
      const line = (await stack.metrics()).split('\n').find((text) => text.startsWith(`${name} `))
      return line === undefined ? 0 : Number(line.slice(name.length + 1).split(' ')[0])
    },
    async ready(timeoutMs = 10_000) {
      const deadline = Date.now() + timeoutMs
      for (;;) {
        const answer = await fetch(`${stack.admin}/readyz`)
        const text = await answer.text()
        if (answer.ok) return
        if (Date.now() > deadline) throw new Error(`${text}\n${output}`)
        await new Promise((resolve) => setTimeout(resolve, 25))
      }
    },
    async restart(env = {}) {
      if (!ended()) throw new Error('the proxy still runs')
      return launch(options, dir, files, bundleKey, keyring, env)
    },
    async kill() {
      if (!ended()) child.kill('SIGKILL')
      await exited
    },
    async stop() {
      if (!ended()) child.kill('SIGTERM')
      await exited
      await rm(dir, { recursive: true, force: true })
    },
  }
  return stack
}
