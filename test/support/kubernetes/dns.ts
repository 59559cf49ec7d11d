import dgram from 'node:dgram'
import { once } from 'node:events'
import type { ApiClient } from './api-client.ts'

// RFC 1035: just what a pod's resolver asks for. Kubernetes' own specification of these names: github.com/kubernetes/dns.
const [TYPE_A, CLASS_IN] = [1, 1]
const [NO_ERROR, SERVER_FAILURE, NAME_ERROR, NOT_IMPLEMENTED] = [0, 2, 3, 4]
const TTL_SECONDS = 2
const NAME = /^(?:(?<pod>[a-z0-9-]+)\.)?(?<service>[a-z0-9-]+)\.(?<namespace>[a-z0-9-]+)\.svc\.cluster\.local$/

type Question = {
  readonly id: number
  readonly flags: number
  readonly name: string
  readonly type: number
  readonly bytes: Buffer
}
type Service = { spec: { clusterIP?: string } }
type Slices = { items: { endpoints: { addresses: string[]; hostname?: string; conditions?: { ready?: boolean } }[] }[] }

/**
 * Cluster DNS of a node under test: `SERVICE.NAMESPACE.svc.cluster.local`, of headless Services the ready pods, asked from the API server
 * each time. No other name exists.
 */
export async function startDns(options: { address: string; client: ApiClient; port?: number }): Promise<dgram.Socket> {
  const socket = dgram.createSocket('udp4')
  socket.on('message', (message, from) => {
    const question = parseQuestion(message)
    if (question === null) return
    resolve(question, options.client)
      .catch((): Resolved => ({ code: SERVER_FAILURE, addresses: [] }))
      .then((resolved) => socket.send(encodeAnswer(question, resolved), from.port, from.address))
      .catch(() => undefined)
  })
  socket.bind(options.port ?? 53, options.address)
  await once(socket, 'listening')
  return socket
}

type Resolved = { readonly code: number; readonly addresses: readonly string[] }

async function resolve(question: Question, client: ApiClient): Promise<Resolved> {
  if ((question.flags & 0x7800) !== 0) return { code: NOT_IMPLEMENTED, addresses: [] }
  const { pod, service, namespace } = NAME.exec(question.name)?.groups ?? {}
  if (service === undefined || namespace === undefined) return { code: NAME_ERROR, addresses: [] }
  const found = await client.request('GET', `/api/v1/namespaces/${namespace}/services/${service}`)
  if (found.status === 404) return { code: NAME_ERROR, addresses: [] }
  if (found.status !== 200) return { code: SERVER_FAILURE, addresses: [] }
  const { clusterIP = 'None' } = found.json<Service>().spec
  if (pod === undefined && clusterIP !== 'None') return forType(question, [clusterIP])
  const selector = encodeURIComponent(`kubernetes.io/service-name=${service}`)
  const slices = await client.request(
    'GET',
    `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices?labelSelector=${selector}`,
  )
  const endpoints = slices.json<Slices>().items.flatMap((slice) => slice.endpoints ?? [])
  const wanted = endpoints.filter(({ hostname, conditions }) =>
    pod === undefined ? conditions?.ready !== false : hostname === pod,
  )
  if (wanted.length === 0) return { code: NAME_ERROR, addresses: [] }
  return forType(
    question,
    wanted.flatMap(({ addresses }) => addresses),
  )
}

/** A name without an address of the type that was asked for exists all the same. */
function forType(question: Question, addresses: readonly string[]): Resolved {
  return { code: NO_ERROR, addresses: question.type === TYPE_A ? addresses.slice(0, 20) : [] }
}

export function parseQuestion(message: Buffer): Question | null {
  if (message.length < 17 || message.readUInt16BE(4) !== 1) return null
  const labels: string[] = []
  let at = 12
  for (;;) {
    const length = message[at]
    if (length === undefined || length > 63) return null
    at += 1
    if (length === 0) break
    labels.push(message.toString('latin1', at, at + length).toLowerCase())
    at += length
  }
  if (at + 4 > message.length) return null
  return {
    id: message.readUInt16BE(0),
    flags: message.readUInt16BE(2),
    name: labels.join('.'),
    type: message.readUInt16BE(at),
    bytes: message.subarray(12, at + 4),
  }
}

export function encodeAnswer(question: Question, { code, addresses }: Resolved): Buffer {
  const head = Buffer.alloc(12)
  head.writeUInt16BE(question.id, 0)
  // An authoritative response; recursion as asked for.
  head.writeUInt16BE(0x8480 | (question.flags & 0x0100) | code, 2)
  head.writeUInt16BE(1, 4)
  head.writeUInt16BE(addresses.length, 6)
  const records = addresses.map((address) => {
    const record = Buffer.alloc(16)
    record.writeUInt16BE(0xc00c, 0)
    record.writeUInt16BE(TYPE_A, 2)
    record.writeUInt16BE(CLASS_IN, 4)
    record.writeUInt32BE(TTL_SECONDS, 6)
    record.writeUInt16BE(4, 10)
    address.split('.').forEach((part, index) => record.writeUInt8(Number(part), 12 + index))
    return record
  })
  return Buffer.concat([head, question.bytes, ...records])
}
