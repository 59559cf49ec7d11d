import { createHash } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { extractStamp } from '#core/stamp/splice.ts'
import { targetDigest } from '#core/stamp/subject.ts'
import { verifyStamp } from '#core/stamp/verify.ts'
import type { RuleSource } from '#engine/compile/compile.ts'
import { startProxyStack, type ProxyStack } from '#test/support/proxy-stack.ts'
import { startCountingLedger, type CountingLedger } from './audit-count.ts'
import { startScript } from './child.ts'
import type { Cores } from './cores.ts'
import { nginxVersion, startNginxFiles, startNginxProxy } from './nginx.ts'
import { customerJson, SIZES, type Size } from './payload.ts'

/** One thing that is measured. */
export type Candidate = {
  readonly name: string
  /** Why it is not measured here; then it has neither `url` nor `pid`. */
  readonly missing?: string
  readonly url: string
  /** The process whose CPU time is its cost; null where nothing stands in between. */
  readonly pid: number | null
  /** Stamped answers so far by its own count; null where it stamps nothing. */
  readonly stamped: (() => Promise<number>) | null
  /** Audit events that are not acknowledged yet. */
  readonly pending: (() => Promise<number>) | null
  /** What it logged last, for when it fails. */
  log?(): string
  /** Fetches one answer and throws unless it is what it has to be: status, bytes, stamp. */
  check(size: Size): Promise<void>
  /** After the last round, when all is sent: throws unless every stamped answer has its event. Says what it found. */
  reconcile?(): Promise<string>
}

export type Bench = {
  readonly upstream: string
  readonly nginx: string | null
  readonly candidates: readonly Candidate[]
  stop(): Promise<void>
}

const TENANT = 'acme'
const PLAIN = '@fastify/http-proxy'
/** What every ratio is against. */
export const REFERENCE = PLAIN

type Mode = 'off' | 'shadow' | 'enforce'

/** Starts everything that is compared. `dir`: for files, on the disk that the spool is to be measured on. */
export async function startBench(dir: string, cores: Cores, say: (line: string) => void): Promise<Bench> {
  const stopping: (() => Promise<unknown>)[] = []
  const stop = async (): Promise<void> => {
    for (const one of stopping.toReversed()) await one()
  }
  const started = <T extends { stop(): Promise<unknown> }>(it: T): T => {
    stopping.push(() => it.stop())
    return it
  }
  try {
    const [measured, rest] = [cores?.measured, cores?.rest]
    const nginx = nginxVersion()
    say('upstream')
    for (const { name, bytes } of SIZES) await writeFile(path.join(dir, `${name}.json`), customerJson(bytes))
    const names = SIZES.map(({ name }) => name)
    const upstream = started(
      nginx === null
        ? await startScript(path.join(import.meta.dirname, 'upstream-server.ts'), [], rest)
        : await startNginxFiles(dir, names, rest),
    )
    const candidates: Candidate[] = [passing('direct', upstream.url, null)]
    if (nginx === null) {
      candidates.push({ ...passing('nginx', '', null), missing: 'not installed' })
    } else {
      const proxy = started(await startNginxProxy(dir, upstream.url, measured))
      candidates.push(passing('nginx', proxy.url, proxy.pid))
    }
    say('plain proxy')
    const script = path.join(import.meta.dirname, 'plain-proxy.ts')
    const plain = started(await startScript(script, [upstream.url], measured))
    candidates.push(passing(PLAIN, plain.url, plain.pid))

    const signet = async (name: string, mode: Mode, rules: 'standard' | readonly RuleSource[]): Promise<void> => {
      say(name)
      const ledger = started(await startCountingLedger(TENANT, rest))
      const stack = started(
        await startProxyStack({
          upstream: upstream.url,
          ledger: ledger.access,
          rules,
          policyData: policyData(),
          env: { SIGNET_MODE: mode, SIGNET_LOG_LEVEL: 'warn' },
          ...(measured === undefined ? {} : { cpus: measured }),
        }),
      )
      await stack.ready()
      candidates.push(signetCandidate(name, mode, stack, ledger))
    }
    const metadata = await readRules(path.join(import.meta.dirname, 'rules'))
    await signet('Signet off', 'off', metadata)
    await signet('Signet shadow, metadata rules', 'shadow', metadata)
    await signet('Signet enforce, metadata rules', 'enforce', metadata)
    await signet('Signet enforce, standard pack', 'enforce', 'standard')
    return { upstream: nginx === null ? 'node:http' : `${nginx}, static files`, nginx, candidates, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function readRules(directory: string): Promise<RuleSource[]> {
  const names = (await readdir(directory)).filter((name) => name.endsWith('.rego'))
  return Promise.all(
    names.map(async (name) => ({ path: name, text: await readFile(path.join(directory, name), 'utf8') })),
  )
}

/** Customer data is confidential, so each size has an approval by digest for the external channel. */
function policyData(): unknown {
  return {
    version: 1,
    routes: SIZES.map(({ name }) => ({
      template: `/${name}/{id}`,
      classification: 'confidential',
      regulations: ['GDPR'],
    })),
    approvals: SIZES.map(({ name, bytes }) => ({
      id: `approval-${name}`,
      resource: `/${name}/{id}`,
      digest: digestOf(customerJson(bytes)),
      channel: 'external',
      approved_by: 'benchmark',
      expires_at: '2100-01-01T00:00:00Z',
    })),
  }
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

function passing(name: string, url: string, pid: number | null): Candidate {
  return { name, url, pid, stamped: null, pending: null, check: (size) => checkPassed(name, url, size) }
}

async function checkPassed(name: string, url: string, size: Size): Promise<void> {
  const response = await fetch(`${url}/${size.name}/1`)
  const body = Buffer.from(await response.arrayBuffer())
  expectThat(name, response.status === 200, `answered ${response.status}: ${body.toString().slice(0, 500)}`)
  expectThat(name, body.equals(customerJson(size.bytes)), 'did not pass on the bytes of the upstream')
}

function signetCandidate(name: string, mode: Mode, stack: ProxyStack, ledger: CountingLedger): Candidate {
  const url = stack.external
  const stamped = (): Promise<number> => stack.sample(`stamps_issued_total{tenant="${TENANT}"}`)
  return {
    name,
    url,
    pid: stack.child.pid ?? 0,
    stamped: mode === 'enforce' ? stamped : null,
    pending: mode === 'off' ? null : () => stack.sample('signet_audit_pending_events'),
    log: () => stack.output(),
    async check(size) {
      if (mode !== 'enforce') {
        await checkPassed(name, url, size)
        return
      }
      const target = `/${size.name}/7`
      const response = await fetch(url + target)
      const body = Buffer.from(await response.arrayBuffer())
      expectThat(name, response.status === 200, `answered ${response.status}: ${body.toString().slice(0, 500)}`)
      const embedded = extractStamp(body)
      expectThat(
        name,
        embedded?.payload.equals(customerJson(size.bytes)) === true,
        'did not stamp the bytes of the upstream',
      )
      const expected = {
        tenant: TENANT,
        method: 'GET',
        target_digest: targetDigest(target),
        status: 200,
        media_type: 'application/json',
        channel: 'external',
      } as const
      const { payload, stampBytes } = embedded
      const { stamp } = verifyStamp({ stampBytes, payload, keyring: stack.keyring, expected })
      expectThat(
        name,
        stamp.data_classification !== 'public',
        `classified customer data as ${stamp.data_classification}`,
      )
    },
    async reconcile() {
      const issued = await stamped()
      const { items, stamps } = await ledger.count()
      expectThat(name, stamps === issued, `issued ${issued} stamps, but the ledger has ${stamps} in ${items} events`)
      return `${issued} stamps issued, ${items} events in the ledger`
    },
  }
}

function expectThat(name: string, condition: boolean, otherwise: string): asserts condition {
  if (!condition) throw new Error(`${name} ${otherwise}`)
}
