import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import * as undici from 'undici'

export type ClientRequest = {
  readonly url: string
  readonly method: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | null
}
/** As the client shows it, its own decoding and joining of header lines included. */
export type ClientAnswer = {
  readonly status: number
  readonly headers: ReadonlyMap<string, string>
  readonly body: Buffer
}
type Client = (request: ClientRequest) => Promise<ClientAnswer>

/** HTTP clients that others wrote. None follows redirects. */
export const CLIENTS = {
  fetch: withFetch,
  undici: withUndici,
  curl: withCurl,
  urllib: withUrllib,
} as const satisfies Record<string, Client>
export type ClientName = keyof typeof CLIENTS

async function withFetch({ url, method, headers, body }: ClientRequest): Promise<ClientAnswer> {
  const answer = await fetch(url, { method, headers, body, redirect: 'manual' })
  return { status: answer.status, headers: joined([...answer.headers]), body: Buffer.from(await answer.arrayBuffer()) }
}

async function withUndici({ url, method, headers, body }: ClientRequest): Promise<ClientAnswer> {
  const answer = await undici.request(url, { method, headers, body })
  const lines = Object.entries(answer.headers).flatMap(([name, value]) =>
    [value ?? []].flat().map((one) => [name, one] as const),
  )
  return { status: answer.statusCode, headers: joined(lines), body: Buffer.from(await answer.body.arrayBuffer()) }
}

async function withCurl({ url, method, headers, body }: ClientRequest): Promise<ClientAnswer> {
  const dir = await mkdtemp(path.join(tmpdir(), 'signet-curl-'))
  try {
    const files = { head: path.join(dir, 'head'), body: path.join(dir, 'body') }
    const args = ['--silent', '--show-error', '--noproxy', '*', '--max-time', '30', '--globoff', '--path-as-is']
    args.push('--dump-header', files.head, '--output', files.body)
    args.push(...(method === 'HEAD' ? ['--head'] : ['--request', method]))
    for (const [name, value] of Object.entries(headers)) args.push('--header', `${name}: ${value}`)
    if (body !== null) args.push('--data-binary', body)
    await output('curl', [...args, url], '')
    const head = (await readFile(files.head, 'latin1')).trim().split('\r\n\r\n').at(-1) ?? ''
    const [statusLine = '', ...lines] = head.split('\r\n')
    const fields = lines.map(
      (line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()] as const,
    )
    // With --head, curl writes the header where the body goes.
    const content = method === 'HEAD' ? Buffer.alloc(0) : await readFile(files.body).catch(() => Buffer.alloc(0))
    return { status: Number(statusLine.split(' ')[1]), headers: joined(fields), body: content }
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

async function withUrllib({ url, method, headers, body }: ClientRequest): Promise<ClientAnswer> {
  const asked = { url, method, headers, body: body === null ? null : Buffer.from(body).toString('base64') }
  const text = await output(
    'python3',
    ['-B', path.join(import.meta.dirname, 'urllib-client.py')],
    JSON.stringify(asked),
  )
  const answer = JSON.parse(text) as { status: number; headers: [string, string][]; body: string }
  return { status: answer.status, headers: joined(answer.headers), body: Buffer.from(answer.body, 'base64') }
}

function joined(lines: readonly (readonly [string, string])[]): Map<string, string> {
  const map = new Map<string, string>()
  for (const [name, value] of lines) {
    const key = name.toLowerCase()
    const before = map.get(key)
    map.set(key, before === undefined ? value : `${before}, ${value}`)
  }
  return map
}

/** What a program prints. @throws when it is not installed or does not end with 0 */
function output(program: string, args: string[], input: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] })
    const chunks: Buffer[] = []
    let errors = ''
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()))
    child.stdin.on('error', () => undefined)
    child.once('error', reject)
    child.once('close', (code) => {
      if (code === 0) resolve(Buffer.concat(chunks).toString())
      else reject(new Error(`${program} ended with ${code}: ${errors.trim()}`))
    })
    child.stdin.end(input)
  })
}
