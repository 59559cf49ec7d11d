import { readFile } from 'node:fs/promises'
import { BlockList, isIP } from 'node:net'
import type { JWK } from 'jose'
import { SignetError } from '#core/error/signet-error.ts'

// What settings stand for whose form alone `config.ts` checks: lists, and files with secrets.

/** @throws SignetError CONFIG_INVALID without what the file holds */
export async function readStripeSecrets(file: string | undefined): Promise<Map<string, string>> {
  if (file === undefined) return new Map()
  try {
    const value: unknown = JSON.parse(await readFile(file, 'utf8'))
    const entries = Object.entries(value as Record<string, unknown>)
    if (entries.every((entry): entry is [string, string] => typeof entry[1] === 'string' && entry[1] !== ''))
      return new Map(entries)
  } catch (cause) {
    throw new SignetError('CONFIG_INVALID', `SIGNET_GOVERNANCE_STRIPE_SECRETS_FILE: ${file} cannot be read as JSON`, {
      cause,
    })
  }
  throw new SignetError(
    'CONFIG_INVALID',
    `SIGNET_GOVERNANCE_STRIPE_SECRETS_FILE: ${file} holds something else than texts by tenant`,
  )
}

/** Of a variable of this name. @throws SignetError CONFIG_INVALID */
export function networksOf(variable: string, text: string | undefined): BlockList {
  const list = new BlockList()
  for (const network of (text ?? '').split(',').filter((entry) => entry !== '')) {
    const [address = '', bits = ''] = network.split('/')
    const family = isIP(address)
    if (family === 0 || Number(bits) > (family === 4 ? 32 : 128))
      throw new SignetError('CONFIG_INVALID', `${variable}: ${network} is no network`)
    list.addSubnet(address, Number(bits), family === 4 ? 'ipv4' : 'ipv6')
  }
  return list
}

/** `NAME=VALUE`, several with commas. */
export function named(text: string | undefined): Map<string, string> {
  const entries = (text ?? '').split(',').filter((entry) => entry !== '')
  return new Map(entries.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]))
}

/** `TENANT=ORIGIN`, several with commas, also of one tenant. @throws SignetError CONFIG_INVALID */
export function originsByTenant(text: string | undefined): Map<string, Set<string>> {
  const origins = new Map<string, Set<string>>()
  for (const entry of (text ?? '').split(',').filter((one) => one !== '')) {
    const tenant = entry.slice(0, entry.indexOf('='))
    const url = entry.slice(entry.indexOf('=') + 1)
    if (!URL.canParse(url))
      throw new SignetError('CONFIG_INVALID', `SIGNET_GOVERNANCE_OBSERVE_ORIGINS: ${url} is no origin`)
    const known = origins.get(tenant) ?? new Set()
    origins.set(tenant, known.add(new URL(url).origin))
  }
  return origins
}

/** `TENANT=NAMESPACE`, several with commas, also of one tenant. */
export function namespacesByTenant(text: string | undefined): Map<string, string[]> {
  const pairs = (text ?? '')
    .split(',')
    .filter((entry) => entry !== '')
    .map((entry) => entry.split('=') as [string, string])
  return new Map(
    [...Map.groupBy(pairs, ([tenant]) => tenant)].map(([tenant, of]) => [tenant, of.map(([, namespace]) => namespace)]),
  )
}

export function namedEndpoints(text: string | undefined): Map<string, { host: string; port: number }> {
  return new Map(
    [...named(text)].map(([name, at]) => {
      const colon = at.lastIndexOf(':')
      return [name, { host: at.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(at.slice(colon + 1)) }]
    }),
  )
}

/** @throws SignetError CONFIG_INVALID without what the file holds */
export async function readBundleKey(file: string | undefined): Promise<JWK | null> {
  if (file === undefined) return null
  let value: unknown
  try {
    value = JSON.parse(await readFile(file, 'utf8'))
  } catch (cause) {
    throw new SignetError('CONFIG_INVALID', `SIGNET_GOVERNANCE_BUNDLE_KEY_FILE: ${file} cannot be read as JSON`, {
      cause,
    })
  }
  const key = ((value as { key?: unknown }).key ?? value) as JWK
  if (key.kty !== 'EC' || key.crv !== 'P-256' || typeof key.d !== 'string' || typeof key.kid !== 'string')
    throw new SignetError(
      'CONFIG_INVALID',
      `SIGNET_GOVERNANCE_BUNDLE_KEY_FILE: ${file} holds no private P-256 JWK with a kid`,
    )
  return key
}
