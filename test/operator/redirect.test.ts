import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import path from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

/*
 * The packet filter in a real network namespace: `pod` has an app, the proxy and what else a pod may have, `client` is the world.
 * Needs root, iproute2 and nftables.
 */
const run = promisify(execFile)
const ROOT = path.resolve(import.meta.dirname, '../..')
const id = randomBytes(3).toString('hex')
const POD = `sgp${id}`
const CLIENT = `sgc${id}`
const IPV4 = '10.255.77.2'
const IPV6 = 'fd77::2'
const children: ChildProcess[] = []

const inside = (namespace: string, ...command: string[]): Promise<{ stdout: string; stderr: string }> =>
  run('ip', ['netns', 'exec', namespace, ...command])

async function serve(uid: number, servers: object[]): Promise<void> {
  const child = spawn(
    'ip',
    ['netns', 'exec', POD, process.execPath, 'test/support/named-servers-loop.ts', JSON.stringify({ uid, servers })],
    { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'] },
  )
  children.push(child)
  await once(child.stdout, 'data')
}

const ASK = `
const [host, port, protocol] = process.argv.slice(1)
if (protocol === 'udp') {
  const socket = require('node:dgram').createSocket(host.includes(':') ? 'udp6' : 'udp4')
  socket.connect(Number(port), host, () => socket.send('x'))
  socket.on('message', (m) => { console.log(String(m)); process.exit() })
  socket.on('error', (e) => { console.log(e.code); process.exit() })
  setTimeout(() => { console.log('silence'); process.exit() }, 1500)
} else {
  const socket = require('node:net').connect({ host, port: Number(port) })
  let text = ''
  socket.on('data', (d) => { text += d })
  socket.on('end', () => { console.log(text || 'closed'); process.exit() })
  socket.on('error', (e) => { console.log(e.code); process.exit() })
  setTimeout(() => { console.log('silence'); process.exit() }, 1500)
}`

async function ask(from: string, host: string, port: number, protocol = 'tcp'): Promise<string> {
  return (await inside(from, process.execPath, '-e', ASK, host, String(port), protocol)).stdout.trim()
}

/** With a proxy that listens on IPv6 too, as the one of these tests does, unless told otherwise. */
async function redirect(env: Record<string, string>): Promise<string> {
  const { stdout } = await run('ip', ['netns', 'exec', POD, process.execPath, 'operator/redirect/main.ts'], {
    cwd: ROOT,
    env: {
      PATH: process.env['PATH'],
      SIGNET_REDIRECT_TO: '15080',
      SIGNET_REDIRECT_ADMIN: '15094',
      SIGNET_REDIRECT_LISTEN: '[::]',
      ...env,
    },
  })
  return stdout
}

beforeAll(async () => {
  for (const namespace of [POD, CLIENT]) {
    await run('ip', ['netns', 'add', namespace])
    await run('ip', ['-n', namespace, 'link', 'set', 'lo', 'up'])
  }
  await run('ip', ['-n', POD, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', CLIENT])
  for (const [namespace, host] of [
    [POD, 2],
    [CLIENT, 1],
  ] as const) {
    await run('ip', ['-n', namespace, 'addr', 'add', `10.255.77.${host}/24`, 'dev', 'eth0'])
    await run('ip', ['-n', namespace, 'addr', 'add', `fd77::${host}/64`, 'dev', 'eth0', 'nodad'])
    await run('ip', ['-n', namespace, 'link', 'set', 'eth0', 'up'])
  }
  await serve(1000, [
    { host: '::', port: 8080, name: 'app' },
    { host: '::', port: 9090, name: 'metrics' },
    { host: '::', port: 9999, name: 'back door' },
  ])
  await serve(15_065, [
    { host: '::', port: 15_080, name: 'proxy' },
    { host: '::', port: 15_094, name: 'admin' },
    { host: '::', port: 15_099, forward: { host: '127.0.0.1', port: 8080 } },
  ])
  // A mesh's inbound listener, which passes on to the pod's own address as Envoy and linkerd2-proxy do.
  await serve(1337, [
    { host: '::', port: 15_006, forward: { host: IPV4, port: 8080 } },
    { host: '::', port: 15_008, forward: { host: IPV4, port: 9999 } },
    { host: '::', port: 15_020, forward: { host: IPV4, port: 15_094 } },
    { host: '::', port: 15_021, name: 'mesh health' },
  ])
})

afterAll(async () => {
  for (const child of children) child.kill('SIGKILL')
  for (const namespace of [POD, CLIENT]) await run('ip', ['netns', 'del', namespace]).catch(() => {})
})

describe('before', () => {
  it('everything can be reached', async () => {
    expect(await ask(CLIENT, IPV4, 8080)).toBe('app')
    expect(await ask(CLIENT, IPV6, 9999)).toBe('back door')
  })
})

describe('redirect', () => {
  beforeAll(async () => {
    await redirect({ SIGNET_REDIRECT_PORT: '8080', SIGNET_REDIRECT_PASSTHROUGH: '9090' })
    // Again: it changes nothing.
    await redirect({ SIGNET_REDIRECT_PORT: '8080', SIGNET_REDIRECT_PASSTHROUGH: '9090' })
  })

  it.each([
    { what: 'the captured port leads to the proxy', port: 8080, want: 'proxy' },
    { what: 'the proxy’s own port', port: 15_080, want: 'proxy' },
    { what: 'the admin port', port: 15_094, want: 'admin' },
    { what: 'a passthrough port', port: 9090, want: 'metrics' },
    { what: 'another port is refused', port: 9999, want: 'ECONNREFUSED' },
    { what: 'a port that a way to the app listens on', port: 15_099, want: 'ECONNREFUSED' },
    { what: 'a mesh’s port, without a mesh', port: 15_006, want: 'ECONNREFUSED' },
  ])('$what', async ({ port, want }) => {
    expect(await ask(CLIENT, IPV4, port)).toBe(want)
    expect(await ask(CLIENT, IPV6, port)).toBe(want)
  })

  it('refuses UDP too', async () => {
    expect(await ask(CLIENT, IPV4, 8080, 'udp')).toBe('ECONNREFUSED')
  })

  it('leaves loopback and the pod’s own address to the pod', async () => {
    expect(await ask(POD, '127.0.0.1', 8080)).toBe('app')
    expect(await ask(POD, '::1', 9999)).toBe('back door')
    expect(await ask(POD, IPV4, 8080)).toBe('app')
  })

  it('lets the proxy reach the app', async () => {
    expect(await ask(POD, '127.0.0.1', 15_099)).toBe('app')
  })

  it('lets answers in to what the pod asked', async () => {
    const server = spawn('ip', [
      'netns',
      'exec',
      CLIENT,
      process.execPath,
      '-e',
      "require('node:net').createServer((s) => s.end('outside')).listen(7000, '::', () => console.log('ready'))",
    ])
    children.push(server)
    await once(server.stdout, 'data')
    expect(await ask(POD, '10.255.77.1', 7000)).toBe('outside')
    expect(await ask(POD, 'fd77::1', 7000)).toBe('outside')
  })

  it('has one table, however often it ran', async () => {
    const { stdout } = await inside(POD, 'nft', 'list', 'ruleset')
    expect(stdout.match(/^table /gm)).toHaveLength(1)
    expect(stdout.match(/redirect to :15080/g)).toHaveLength(1)
  })
})

describe('redirect of a pod that serves nothing', () => {
  it('lets nothing in but the proxy', async () => {
    await redirect({})
    expect(await ask(CLIENT, IPV4, 8080)).toBe('ECONNREFUSED')
    expect(await ask(CLIENT, IPV6, 15_080)).toBe('proxy')
  })
})

describe('the proxy’s ports in other hands', () => {
  it('answer nobody on IPv6 where the proxy listens on IPv4 alone', async () => {
    await redirect({ SIGNET_REDIRECT_PORT: '8080', SIGNET_REDIRECT_LISTEN: '0.0.0.0' })
    for (const port of [8080, 15_080, 15_094]) expect(await ask(CLIENT, IPV6, port)).toBe('ECONNREFUSED')
    expect(await ask(CLIENT, IPV4, 8080)).toBe('proxy')
    expect(await ask(CLIENT, IPV4, 15_094)).toBe('admin')
  })
  it('answer nobody while another user has them', async () => {
    // The app listens there, as it could while the proxy starts again.
    await redirect({ SIGNET_REDIRECT_PORT: '8080', SIGNET_REDIRECT_TO: '9999' })
    expect(await ask(CLIENT, IPV4, 8080)).toBe('silence')
    expect(await ask(CLIENT, IPV6, 9999)).toBe('silence')
    expect(await ask(POD, '127.0.0.1', 9999)).toBe('back door')
  })
})

describe('redirect beside a mesh', () => {
  beforeAll(async () => {
    await redirect({ SIGNET_REDIRECT_PORT: '8080', SIGNET_REDIRECT_MESH: 'istio' })
    // What istio-init does: every inbound connection goes to Envoy first.
    await inside(POD, 'nft', 'add', 'table', 'ip', 'istio')
    await inside(POD, 'nft', 'add', 'chain', 'ip', 'istio', 'pre', '{ type nat hook prerouting priority -100; }')
    await inside(
      POD,
      'nft',
      'add',
      'rule',
      'ip',
      'istio',
      'pre',
      'tcp',
      'dport',
      '{ 8080, 1234, 15094 }',
      'redirect',
      'to',
      ':15006',
    )
  })

  it.each([
    { what: 'mesh, then proxy', port: 8080, want: 'proxy' },
    { what: 'the mesh’s inbound port itself', port: 15_006, want: 'proxy' },
    { what: 'the mesh passes on what is not captured: refused', port: 15_008, want: 'closed' },
    { what: 'the mesh asks our admin port', port: 15_020, want: 'admin' },
    { what: 'the mesh’s health', port: 15_021, want: 'mesh health' },
    { what: 'the kubelet asks our admin port around the mesh', port: 15_094, want: 'admin' },
    { what: 'around the mesh', port: 9999, want: 'ECONNREFUSED' },
  ])('$what', async ({ port, want }) => {
    const answer = await ask(CLIENT, IPV4, port)
    expect(want === 'closed' ? ['closed', 'ECONNRESET'] : [want]).toContain(answer)
  })

  it('leaves the app’s own loopback alone', async () => {
    expect(await ask(POD, '127.0.0.1', 8080)).toBe('app')
  })
})

describe('what cannot be done', () => {
  it.each([
    { what: 'no port to lead to', env: { SIGNET_REDIRECT_TO: '' }, want: 'SIGNET_REDIRECT_TO is not set' },
    { what: 'a port that is none', env: { SIGNET_REDIRECT_PORT: '99999' }, want: 'from 1 to 65535' },
    { what: 'rules in a list', env: { SIGNET_REDIRECT_PASSTHROUGH: '1 } accept #' }, want: 'port numbers' },
    { what: 'no nft', env: { PATH: '/nowhere' }, want: 'nft cannot be run' },
  ])('$what: says so and fails', async ({ env, want }) => {
    const error = await run(process.execPath, ['operator/redirect/main.ts'], {
      cwd: ROOT,
      env: { PATH: process.env['PATH'], SIGNET_REDIRECT_TO: '15080', SIGNET_REDIRECT_ADMIN: '15094', ...env },
    }).catch((failed: { code: number; stderr: string }) => failed)
    expect(error).toMatchObject({ code: 1, stderr: expect.stringContaining(want) as string })
  })

  it('fails without NET_ADMIN', async () => {
    const error = await run(
      'setpriv',
      [
        '--bounding-set',
        '-net_admin',
        '--inh-caps',
        '-net_admin',
        'ip',
        'netns',
        'exec',
        POD,
        process.execPath,
        'operator/redirect/main.ts',
      ],
      {
        cwd: ROOT,
        env: { PATH: process.env['PATH'], SIGNET_REDIRECT_TO: '15080', SIGNET_REDIRECT_ADMIN: '15094' },
      },
    ).catch((failed: { code: number; stderr: string }) => failed)
    expect(error).toMatchObject({ code: 1, stderr: expect.stringContaining('NET_ADMIN') as string })
  })
})
