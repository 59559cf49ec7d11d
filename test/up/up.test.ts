import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

/** `npm start` as its user meets it: the real processes, and every command that it prints, run as printed. */
const MAIN = path.resolve(import.meta.dirname, '../../cli/main.ts')
const ANY_PORTS = Object.fromEntries(
  ['EXTERNAL', 'INTERNAL', 'ADMIN', 'LEDGER', 'GOVERNANCE', 'BUNDLE', 'DEMO'].map((name) => [
    `SIGNET_${name}_PORT`,
    '0',
  ]),
)
const folder = mkdtempSync(path.join(tmpdir(), 'signet-up-'))
// PostgreSQL does not run as root; its account has to be able to pass through.
chmodSync(folder, 0o711)
const state = path.join(folder, 'state')
const running = new Set<ChildProcess>()
afterAll(() => {
  for (const child of running) child.kill('SIGTERM')
  rmSync(folder, { recursive: true, force: true })
})

function start(env: Record<string, string> = {}) {
  const child = spawn(process.execPath, [MAIN, 'up'], {
    cwd: folder,
    env: { PATH: process.env.PATH, HOME: process.env.HOME, SIGNET_STATE_DIR: state, ...ANY_PORTS, ...env },
  })
  running.add(child)
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const exited = new Promise<number | null>((resolve) => {
    child.once('close', (code) => {
      running.delete(child)
      resolve(code)
    })
  })
  const isUp = async (): Promise<string> => {
    while (!output.includes('signet verify --ledger')) {
      if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}:\n${output}`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    return output
  }
  return { child, exited, isUp, output: () => output }
}

function shell(command: string): { code: number | null; output: string } {
  // `npx signet` of the guide, without npm's own start-up.
  const line = command.replace(/^npx signet/, `'${process.execPath}' '${MAIN}'`)
  const done = spawnSync('/bin/sh', ['-c', line], {
    cwd: folder,
    env: { PATH: process.env.PATH, SIGNET_STATE_DIR: state },
    encoding: 'utf8',
  })
  return { code: done.status, output: done.stdout + done.stderr }
}

/** The commands of the guide by the comment above each. */
function commandsOf(guide: string): Map<string, string> {
  return new Map(
    [...guide.matchAll(/^ {2}# (.*)\n {2}(.*)$/gm)].map(([, what = '', command = '']) => [
      what.split(':')[0] ?? '',
      command,
    ]),
  )
}

describe('signet up with the demo service', () => {
  let up: ReturnType<typeof start>
  let commands: Map<string, string>
  const run = (what: string): { code: number | null; output: string } => {
    const command = commands.get(what)
    if (command === undefined)
      throw new Error(`the guide has no command for «${what}», only for ${[...commands.keys()].join(', ')}`)
    return shell(command)
  }
  beforeAll(async () => {
    up = start()
    commands = commandsOf(await up.isUp())
  })

  it('keeps keys, tokens and passwords to its user', () => {
    const secret = [
      'keyring.json',
      'ledger-keyring.json',
      'proxy.token',
      'auditor.token',
      'bundle-key.json',
      'bundle.token',
      'secrets.key',
      'governance.token',
      'admin.password',
      'admin.token',
      'postgres-passwords.json',
    ]
    expect(readdirSync(state)).toEqual(expect.arrayContaining(secret))
    for (const name of secret) expect([name, statSync(path.join(state, name)).mode & 0o077]).toEqual([name, 0])
    expect(up.output()).not.toContain(readFileSync(path.join(state, 'auditor.token'), 'utf8'))
  })

  it('stamps public data', () => {
    const { output } = run('public data')
    expect(output).toMatch(/^HTTP\/1.1 200 /)
    expect(output).toMatch(/"_compliance":\{.*"data_classification":"public"/)
  })

  it('refuses personal data to the outside, and says how to fix it', () => {
    const { output } = run('personal data to the outside')
    expect(output).toMatch(/^HTTP\/1.1 422 /)
    expect(output).toContain('"remediation"')
    expect(output).not.toContain('lindqvist')
  })

  it('lets the same pass to the inside', () => {
    expect(run('the same to the inside').output).toMatch(/^HTTP\/1.1 200 [^]*"regulatory_compliance":\["GDPR"\]/)
  })

  it('lets an approved statement out, as SOX', () => {
    const { output } = run('a financial statement that was approved for the outside')
    expect(output).toContain('"regulatory_compliance":["SOX"]')
    expect(output).toContain('"approval_status":"approved"')
  })

  it('serves the stamp of a CSV file beside it', () => {
    expect(JSON.parse(run('a CSV file').output)).toMatchObject({ subject: { media_type: 'text/csv' } })
  })

  it('verifies an answer, and the ledger', () => {
    expect(run('an answer and its stamp, checked')).toMatchObject({
      code: 0,
      output: expect.stringMatching(/^verified/),
    })
    expect(run('its hash chain, checked')).toMatchObject({ code: 0, output: expect.stringMatching(/^verified/) })
  })

  it('shows who may do what, as the first user', () => {
    expect(JSON.parse(run('who may do what').output)).toMatchObject({
      tenant: 'demo',
      name: 'admin@demo.example',
      roles: ['Admin'],
    })
  })

  it('shows what the ledger recorded, with the credentials of the line itself', () => {
    expect(JSON.parse(run('what the ledger recorded').output)).toMatchObject({
      items: [{ event: { tenant: 'demo' } }, {}],
    })
  })

  it('refuses a second start on the same folder in one line', async () => {
    const second = start()
    expect(await second.exited).toBe(78)
    expect(second.output()).toMatch(/^signet: cannot start: another signet up \(process \d+\) is running on .*\n$/)
  })

  it('stops everything on Ctrl-C, also when it comes twice at once, and keeps the data for the next start', async () => {
    const eventsBefore = countEvents()
    up.child.kill('SIGINT')
    up.child.kill('SIGINT')
    expect(await up.exited).toBe(0)
    expect(shell('ps -eo args').output).not.toContain(folder)

    up = start()
    commands = commandsOf(await up.isUp())
    expect(countEvents()).toBeGreaterThanOrEqual(eventsBefore)
    expect(run('its hash chain, checked')).toMatchObject({
      code: 0,
      output: expect.stringMatching(/contains the head/),
    })
  })

  it('brings everything down, with the reason, when one process dies', async () => {
    const proxy = shell('ps -eo pid,args')
      .output.split('\n')
      .find((line) => line.includes('proxy/main.ts') && isChildOf(line, up.child.pid))
    process.kill(Number(proxy?.trim().split(' ')[0]), 'SIGKILL')
    expect(await up.exited).toBe(1)
    expect(up.output()).toMatch(/^signet: the proxy ended \(SIGKILL\)/m)
    expect(shell('ps -eo args').output).not.toContain(folder)
  })

  function countEvents(): number {
    const report = shell('npx signet verify --ledger --json').output
    return (JSON.parse(report) as { head: { seq: number } }).head.seq
  }
})

function isChildOf(line: string, parent: number | undefined): boolean {
  const status = readFileSync(`/proc/${line.trim().split(' ')[0]}/status`, 'utf8')
  return status.includes(`PPid:\t${parent}\n`)
}

describe('signet up, when something is in the way', () => {
  it('names the port that is in use, in one line, before anything starts', async () => {
    const blocker = createServer()
    await new Promise<void>((resolve) => {
      blocker.listen(0, '127.0.0.1', resolve)
    })
    const { port } = blocker.address() as AddressInfo
    const up = start({ SIGNET_EXTERNAL_PORT: String(port) })
    expect(await up.exited).toBe(1)
    expect(up.output()).toBe(
      `signet: cannot start: port ${port} (proxy, external channel) is already in use; stop what listens there or set SIGNET_EXTERNAL_PORT\n`,
    )
    blocker.close()
  })

  it('names a variable that is wrong', async () => {
    const up = start({ SIGNET_UPSTREAM: 'localhost:3000' })
    expect(await up.exited).toBe(78)
    expect(up.output()).toBe(
      'signet: cannot start: SIGNET_UPSTREAM is "localhost:3000"; it must be an http or https URL without a path, for example http://127.0.0.1:3000\n',
    )
  })

  it('warns of an upstream that does not answer, starts, and answers 502 until it does', async () => {
    const up = start({ SIGNET_UPSTREAM: 'http://127.0.0.1:9', SIGNET_STATE_DIR: path.join(folder, 'own') })
    const output = await up.isUp()
    expect(output).toContain(
      'signet: warning: nothing listens at http://127.0.0.1:9; requests get a 502 problem until something does\n',
    )
    expect(shell(commandsOf(output).get('its answer, stamped') ?? 'false').output).toMatch(
      /^HTTP\/1.1 502 [^]*UPSTREAM_UNREACHABLE/,
    )
    up.child.kill('SIGTERM')
    expect(await up.exited).toBe(0)
  })
})
