import Type from 'typebox'

/** What can be done. `write` makes and changes; the others are what they say. */
export const ACTIONS = ['read', 'write', 'delete', 'execute', 'assign', 'override', 'pause', 'export'] as const
/** What it can be done to. `tasks` are remediation actions, steps of workflows and runs of agents. */
export const RESOURCES = [
  'policies',
  'rules',
  'scans',
  'remediation',
  'tasks',
  'events',
  'violations',
  'workflows',
  'evidence',
  'checklists',
  'audit',
  'connectors',
  'reports',
  'users',
  'service-accounts',
  'roles',
  'tokens',
] as const
export type Action = (typeof ACTIONS)[number]
export type Resource = (typeof RESOURCES)[number]
/** `own`: only what is assigned to, or was made by, the one who asks. */
export type Extent = 'all' | 'own'

export const Permission = Type.Object(
  {
    action: Type.Enum([...ACTIONS, '*']),
    resource: Type.Enum([...RESOURCES, '*']),
    extent: Type.Enum(['all', 'own']),
  },
  { additionalProperties: false },
)
export type Permission = Type.Static<typeof Permission>

/** `ACTION:RESOURCE`, either may be `*`: what of its principal's permissions a token carries. */
export const SCOPE_PATTERN = `^(${[...ACTIONS, '\\*'].join('|')}):(${[...RESOURCES, '\\*'].join('|')})$`

/**
 * How far the permissions reach for an action on a resource, within the scopes of the token (null: all of them); null where they do not.
 * `own` beside `all` is `all`.
 */
export function extentOf(
  permissions: readonly Permission[],
  scopes: readonly string[] | null,
  action: Action,
  resource: Resource,
): Extent | null {
  if (scopes !== null && !scopes.some((scope) => scopeCovers(scope, action, resource))) return null
  let extent: Extent | null = null
  for (const permission of permissions) {
    if (!covers(permission.action, action) || !covers(permission.resource, resource)) continue
    if (permission.extent === 'all') return 'all'
    extent = 'own'
  }
  return extent
}

/** The first of `wanted` that `held` does not include; undefined where they are all there. Nobody gives what they do not have. */
export function firstNotHeld(
  held: readonly Permission[],
  scopes: readonly string[] | null,
  wanted: readonly Permission[],
): Permission | undefined {
  return wanted.find((permission) => !includes(held, scopes, permission))
}

export function formatPermission({ action, resource, extent }: Permission): string {
  return extent === 'own' ? `${action}:${resource} (own)` : `${action}:${resource}`
}

function includes(held: readonly Permission[], scopes: readonly string[] | null, wanted: Permission): boolean {
  const actions: readonly Action[] = wanted.action === '*' ? ACTIONS : [wanted.action]
  const resources: readonly Resource[] = wanted.resource === '*' ? RESOURCES : [wanted.resource]
  return actions.every((action) =>
    resources.every((resource) => {
      const extent = extentOf(held, scopes, action, resource)
      return extent === 'all' || (extent === 'own' && wanted.extent === 'own')
    }),
  )
}

function scopeCovers(scope: string, action: Action, resource: Resource): boolean {
  const [scopedAction = '', scopedResource = ''] = scope.split(':')
  return covers(scopedAction, action) && covers(scopedResource, resource)
}

function covers(pattern: string, value: string): boolean {
  return pattern === '*' || pattern === value
}
