import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { firstFault } from '../error/schema-fault.ts'
import { SignetError } from '../error/signet-error.ts'
import { CHANNELS, type Channel } from '../stamp/schema.ts'

const Tenant = Type.String({ minLength: 1, maxLength: 253, pattern: '^[\\x21-\\x7e]+$' })
const Settings = {
  /** More tenants that `signet.dev/tenant` may choose from. */
  tenants: Type.Optional(Type.Array(Tenant, { maxItems: 256, uniqueItems: true })),
  region: Type.Optional(Type.String({ minLength: 1, maxLength: 128 })),
  channel: Type.Optional(Type.Enum(CHANNELS)),
  /** Ports of the application that are left alone: nothing there is stamped. */
  passthroughPorts: Type.Optional(Type.Array(Type.Integer({ minimum: 1, maximum: 65_535 }), { maxItems: 64 })),
}
const NAMESPACE = '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$'

/** The platform's word on namespaces (`docs/identity.md`), version 1. Not written by app teams. */
export const NamespaceMap = Type.Object(
  {
    version: Type.Literal(1),
    /** What holds for namespaces that are not listed. Its `tenant` is theirs together; without one each is a tenant of its own name. */
    default: Type.Optional(
      Type.Object({ tenant: Type.Optional(Tenant), ...Settings }, { additionalProperties: false }),
    ),
    namespaces: Type.Record(
      Type.String({ pattern: NAMESPACE }),
      Type.Object({ tenant: Type.Optional(Tenant), ...Settings }, { additionalProperties: false }),
      { additionalProperties: false },
    ),
  },
  { additionalProperties: false },
)
export type NamespaceMap = Type.Static<typeof NamespaceMap>

/** What a namespace may be. `tenants`: those that a pod may choose, `tenant` first. */
export type NamespaceSettings = {
  readonly tenant: string
  readonly tenants: readonly string[]
  readonly region: string | null
  readonly channel: Channel | null
  readonly passthroughPorts: readonly number[]
}

/** What a pod would like to be: the annotations `signet.dev/tenant` and `signet.dev/producer-id`. */
export type IdentityClaims = { readonly tenant?: string | undefined; readonly producerId?: string | undefined }
export type WorkloadIdentity = {
  readonly tenant: string
  readonly producerId: string
  readonly region: string | null
  readonly channel: Channel | null
}

/** Every namespace a tenant of its own name. */
export const EMPTY_NAMESPACE_MAP: NamespaceMap = { version: 1, namespaces: {} }

const validator = Compile(NamespaceMap)
/** After `NAMESPACE/`: visible ASCII, so that it can stand in a header. */
const PRODUCER_REST = /^[\x21-\x7e]{1,253}$/

/**
 * A parsed value as a namespace map; nothing is converted or defaulted. `source` names it in messages.
 * @throws SignetError CONFIG_INVALID with the place of the first fault
 */
export function checkNamespaceMap(value: unknown, source: string): NamespaceMap {
  if (validator.Check(value)) return value
  const { path, allowed } = firstFault(validator.Errors(value))
  throw new SignetError('CONFIG_INVALID', `${source} is not a namespace map: at ${path}: ${allowed}`, {
    details: { path, allowed },
  })
}

/**
 * What the map says of a namespace.
 * @throws SignetError FORBIDDEN for a namespace that is not listed and has the name of a tenant that the map gives to others: who may
 * make namespaces could else become any tenant
 */
export function namespaceSettings(map: NamespaceMap, namespace: string): NamespaceSettings {
  const listed = Object.hasOwn(map.namespaces, namespace) ? map.namespaces[namespace] : undefined
  const settings = { ...map.default, ...listed }
  const named = listed === undefined ? map.default?.tenant : (listed.tenant ?? map.default?.tenant)
  if (named === undefined && listed === undefined && isTenantOfOthers(map, namespace)) {
    throw new SignetError(
      'FORBIDDEN',
      `namespace ${namespace} has the name of a tenant that the namespace map gives to other namespaces; list it in the map to say which tenant it is`,
    )
  }
  const tenant = named ?? namespace
  return {
    tenant,
    // A choice that goes with another tenant is not inherited.
    tenants: [
      ...new Set([tenant, ...(listed?.tenants ?? (listed?.tenant === undefined ? (map.default?.tenants ?? []) : []))]),
    ],
    region: settings.region ?? null,
    channel: settings.channel ?? null,
    passthroughPorts: settings.passthroughPorts ?? [],
  }
}

/**
 * Who a workload is: what the map says of its namespace, narrowed by what the pod claims. `producerId` is `NAMESPACE/SERVICEACCOUNT`
 * where nothing else is claimed.
 * @throws SignetError FORBIDDEN for a claim that would widen, and as `namespaceSettings` does
 */
export function workloadIdentity(
  map: NamespaceMap,
  workload: { readonly namespace: string; readonly serviceAccount: string },
  claims: IdentityClaims = {},
): WorkloadIdentity {
  const { namespace, serviceAccount } = workload
  const settings = namespaceSettings(map, namespace)
  const tenant = claims.tenant ?? settings.tenant
  if (!settings.tenants.includes(tenant)) {
    throw new SignetError(
      'FORBIDDEN',
      `namespace ${namespace} may not be tenant «${shown(tenant)}»; allowed: ${settings.tenants.join(', ')}`,
    )
  }
  const producerId = claims.producerId ?? `${namespace}/${serviceAccount}`
  const rest = producerId.startsWith(`${namespace}/`) ? producerId.slice(namespace.length + 1) : ''
  if (!PRODUCER_REST.test(rest)) {
    throw new SignetError(
      'FORBIDDEN',
      `namespace ${namespace} may not write as producer «${shown(producerId)}»; allowed: ${namespace}/ and 1 to 253 visible ASCII characters`,
    )
  }
  return { tenant, producerId, region: settings.region, channel: settings.channel }
}

function isTenantOfOthers(map: NamespaceMap, namespace: string): boolean {
  return [map.default ?? {}, ...Object.values(map.namespaces)].some(
    (entry) => entry.tenant === namespace || entry.tenants?.includes(namespace) === true,
  )
}

function shown(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 100)
}
