import http from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import net from 'node:net'
import { Compile } from 'typebox/compile'
import type { FastifyInstance } from 'fastify'
import { AppProbes, APP_PROBES_PATH, type AppProbe } from '#core/injection/app-probe.ts'
import { firstFault } from '#core/error/schema-fault.ts'
import { SignetError } from '#core/error/signet-error.ts'

/*
 * Under capture `redirect` nobody from outside reaches the application, the kubelet neither. Its probes and httpGet hooks come here
 * instead (injection rewrites them), and are run on the application over loopback as the kubelet would have run them:
 * https://github.com/kubernetes/kubernetes/tree/master/pkg/probe. What the application answers stays here: an answer says
 * whether it was a success, never with what bytes, for this is no way around the proxy.
 */

const validator = Compile(AppProbes)
const LOOPBACK = '127.0.0.1'
/** The kubelet follows as many. */
const MAX_REDIRECTS = 10
/** Of an answer, after which it is cut off: the kubelet reads 10 KiB. */
const MAX_BODY_BYTES = 10_240
/** Under way at once, of all probes. The kubelet asks each one at a time. */
const MAX_UNDER_WAY = 64

/** `answered`: the application said something, be it that it is not well. */
export type ProbeResult = { readonly ok: boolean; readonly answered: boolean; readonly message: string }
type Caller = { readonly hostname: string; readonly userAgent: string; readonly signal: AbortSignal }

/** The value of `SIGNET_PROBES`. @throws SignetError CONFIG_INVALID */
export function parseAppProbes(text: string | undefined): AppProbes {
  if (text === undefined) return {}
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new SignetError('CONFIG_INVALID', 'SIGNET_PROBES is not JSON')
  }
  if (validator.Check(value)) return value
  const { path, allowed } = firstFault(validator.Errors(value))
  throw new SignetError('CONFIG_INVALID', `SIGNET_PROBES: ${path} ${allowed}`)
}

/** Answers for the probes that are configured, and for nothing else: 200, 503 (failed), 404. */
export function appProbeRoutes(app: FastifyInstance, probes: AppProbes): void {
  const byName = new Map(Object.entries(probes))
  const shared = new Map<string, Promise<ProbeResult>>()
  let underWay = 0

  const once = async (name: string, probe: AppProbe, caller: Omit<Caller, 'signal'>): Promise<ProbeResult> => {
    underWay++
    try {
      const signal = AbortSignal.timeout(probe.timeoutSeconds * 1_000)
      return await runProbe(probe, { ...caller, signal }).catch((error: unknown) => ({
        ok: false,
        answered: false,
        message: signal.aborted ? `no answer within ${probe.timeoutSeconds} s` : reasonOf(error),
      }))
    } finally {
      underWay--
      shared.delete(name)
    }
  }

  app.get<{ Params: { container: string; kind: string } }>(
    `${APP_PROBES_PATH}:container/:kind`,
    async (request, reply) => {
      const { container, kind } = request.params
      const name = `${container}/${kind}`
      const probe = byName.get(name)
      void reply.type('text/plain').header('cache-control', 'no-store')
      if (probe === undefined) return reply.code(404).send('no such probe\n')
      const isHook = kind === 'postStart' || kind === 'preStop'
      // Hooks too: one that hangs, called again and again, must not keep probes from running.
      const running = shared.get(name)
      if (running === undefined && underWay >= MAX_UNDER_WAY) return reply.code(503).send('too many probes at once\n')
      const caller = { hostname: request.hostname, userAgent: request.headers['user-agent'] ?? 'kube-probe/signet' }
      const result = running ?? once(name, probe, caller)
      shared.set(name, result)
      const { ok, answered, message } = await result
      // To the kubelet a hook has succeeded with whatever answer, and failed with none.
      if (isHook && !answered) {
        reply.hijack()
        request.raw.socket.destroy()
        return reply
      }
      return reply.code(ok || isHook ? 200 : 503).send(`${message}\n`)
    },
  )
}

/** Runs one probe on the application. Rejects where it cannot be reached. */
function runProbe(probe: AppProbe, caller: Caller): Promise<ProbeResult> {
  if ('httpGet' in probe) return httpProbe(probe.httpGet, caller)
  if ('tcpSocket' in probe) return tcpProbe(probe.tcpSocket.port, caller.signal)
  return grpcProbe(probe.grpc, caller)
}

type HttpTarget = { readonly scheme: 'HTTP' | 'HTTPS'; readonly port: number; readonly path: string }

async function httpProbe(
  probe: Extract<AppProbe, { httpGet: unknown }>['httpGet'],
  caller: Caller,
): Promise<ProbeResult> {
  let target: HttpTarget = { scheme: probe.scheme, port: probe.port, path: probe.path }
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const { status, location } = await httpGet(target, headersOf(probe.httpHeaders, target, caller), caller.signal)
    if (status < 200 || status >= 400) return { ok: false, answered: true, message: `status ${status}` }
    const next = status >= 300 && location !== undefined ? redirectTarget(location, target, caller.hostname) : null
    // To another host the kubelet does not follow, and is content.
    if (next === null) return { ok: true, answered: true, message: `status ${status}` }
    target = next
  }
  return { ok: false, answered: true, message: `stopped after ${MAX_REDIRECTS} redirects` }
}

/** The kubelet's own headers, unless the probe says otherwise; one with an empty value is left out. */
function headersOf(
  configured: readonly { readonly name: string; readonly value: string }[],
  target: HttpTarget,
  caller: Caller,
): string[] {
  const names = new Set(configured.map(({ name }) => name.toLowerCase()))
  const headers = configured.filter(({ value }) => value !== '').flatMap(({ name, value }) => [name, value])
  if (!names.has('host')) headers.push('Host', `${bracketed(caller.hostname)}:${target.port}`)
  if (!names.has('user-agent')) headers.push('User-Agent', caller.userAgent)
  if (!names.has('accept')) headers.push('Accept', '*/*')
  return [...headers, 'Connection', 'close']
}

function httpGet(
  { scheme, port, path }: HttpTarget,
  headers: readonly string[],
  signal: AbortSignal,
): Promise<{ status: number; location: string | undefined }> {
  return new Promise((resolve, reject) => {
    const options = { host: LOOPBACK, port, path: encoded(path), agent: false, signal, headers }
    const onAnswer = (answer: http.IncomingMessage): void => {
      let bytes = 0
      answer.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        if (bytes > MAX_BODY_BYTES) answer.destroy()
      })
      answer.on('error', () => {})
      // The kubelet waits for the body too: an application that hangs in it has not answered.
      answer.once('close', () => {
        if (answer.complete || bytes > MAX_BODY_BYTES)
          resolve({ status: answer.statusCode ?? 0, location: answer.headers.location })
        else reject(new Error('the answer broke off'))
      })
    }
    const request =
      scheme === 'HTTPS'
        ? // The kubelet does not check certificates either: what listens on this pod's loopback is this pod.
          https.request({ ...options, rejectUnauthorized: false }, onAnswer)
        : http.request(options, onAnswer)
    request.once('error', reject)
    request.end()
  })
}

/** As Go's url.Parse and String would have it: a path may be written with characters that a request line cannot have. */
function encoded(path: string): string {
  return (path.startsWith('/') ? path : `/${path}`).replaceAll(/[^\x21-\x7e]+/gu, encodeURIComponent)
}

/** Where a redirect leads that stays with the host asked for; null where it leads away. */
function redirectTarget(location: string, from: HttpTarget, hostname: string): HttpTarget | null {
  const base = `${from.scheme.toLowerCase()}://${bracketed(hostname)}:${from.port}${from.path}`
  const url = URL.parse(location, base)
  if (url === null || url.hostname !== URL.parse(base)?.hostname) return null
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return null
  const scheme = url.protocol === 'https:' ? 'HTTPS' : 'HTTP'
  const port = url.port === '' ? (scheme === 'HTTPS' ? 443 : 80) : Number(url.port)
  return { scheme, port, path: `${url.pathname}${url.search}` }
}

function bracketed(hostname: string): string {
  return hostname.includes(':') && !hostname.startsWith('[') ? `[${hostname}]` : hostname
}

function tcpProbe(port: number, signal: AbortSignal): Promise<ProbeResult> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host: LOOPBACK, port, signal })
    socket.once('error', reject)
    socket.once('connect', () => {
      socket.destroy()
      resolve({ ok: true, answered: true, message: 'connected' })
    })
  })
}

/** https://github.com/grpc/grpc/blob/master/doc/health-checking.md, in clear text, as the kubelet does. */
function grpcProbe({ port, service }: { port: number; service: string }, caller: Caller): Promise<ProbeResult> {
  return new Promise((resolve, reject) => {
    const session = http2.connect(`http://${LOOPBACK}:${port}`)
    const stop = (): void => session.destroy()
    caller.signal.addEventListener('abort', stop, { once: true })
    session.once('error', reject)
    session.once('close', () => {
      caller.signal.removeEventListener('abort', stop)
      reject(new Error('the connection was closed'))
    })
    const stream = session.request({
      ':method': 'POST',
      ':path': '/grpc.health.v1.Health/Check',
      ':authority': `${bracketed(caller.hostname)}:${port}`,
      'content-type': 'application/grpc',
      te: 'trailers',
      'user-agent': caller.userAgent,
    })
    const chunks: Buffer[] = []
    let bytes = 0
    let status = -1
    const onHeaders = (headers: http2.IncomingHttpHeaders): void => {
      if (headers['grpc-status'] !== undefined) status = Number(headers['grpc-status'])
    }
    stream.on('response', onHeaders)
    stream.on('trailers', onHeaders)
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes <= MAX_BODY_BYTES) chunks.push(chunk)
      else stream.close(http2.constants.NGHTTP2_CANCEL)
    })
    stream.once('error', reject)
    stream.once('close', () => {
      resolve(grpcResult(status, Buffer.concat(chunks)))
      session.destroy()
    })
    stream.end(healthRequest(service))
  })
}

/** A gRPC message: not compressed, its length, and `HealthCheckRequest{service}` (field 1, a string). */
function healthRequest(service: string): Buffer {
  const name = Buffer.from(service, 'utf8')
  const message = name.length === 0 ? name : Buffer.concat([Buffer.from([0x0a]), varint(name.length), name])
  const head = Buffer.alloc(5)
  head.writeUInt32BE(message.length, 1)
  return Buffer.concat([head, message])
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  for (; rest > 0x7f; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80)
  return Buffer.from([...bytes, rest])
}

const SERVING = 1

/** `HealthCheckResponse{status}`: field 1, a varint; nothing else is in it. */
function grpcResult(status: number, body: Buffer): ProbeResult {
  if (status !== 0)
    return { ok: false, answered: status !== -1, message: status === -1 ? 'no gRPC answer' : `gRPC status ${status}` }
  const message = body.subarray(5)
  const serving = body.length >= 5 && body[0] === 0 && message[0] === 0x08 && message[1] === SERVING
  return { ok: serving, answered: true, message: serving ? 'serving' : 'not serving' }
}

/** A code of the system, or the words of this file; not what the application sent. */
function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  return code ?? (error instanceof Error ? message.slice(0, 100) : 'failed')
}
