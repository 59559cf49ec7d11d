import { extentOf, type Action, type Resource } from '#governance/access/permission.ts'
import { SHIPPED_ROLES } from '#governance/access/shipped-roles.ts'

export type WorkCall = {
  readonly call: readonly [method: string, url: string, body?: unknown]
  readonly permission: string
  /** One's own suffices: then a role with a permission on its own is let in, and sees only that. */
  readonly ownCounts?: boolean
}

/**
 * The calls that people work with, each with a body that is right in form, for whoever asks all of them of all roles. `unknown`: an id that is
 * nobody's.
 */
export function workCalls(unknown: string): WorkCall[] {
  const policy = { name: 'X', policy_type: 'opa_rego', rego_content: 'package x' }
  return [
    { call: ['GET', '/api/v1/policies'], permission: 'read:policies' },
    { call: ['POST', '/api/v1/policies', policy], permission: 'write:policies' },
    { call: ['GET', `/api/v1/policies/${unknown}`], permission: 'read:policies' },
    { call: ['PATCH', `/api/v1/policies/${unknown}`, { name: 'X' }], permission: 'write:policies' },
    { call: ['GET', `/api/v1/policies/${unknown}/versions`], permission: 'read:policies' },
    { call: ['POST', `/api/v1/policies/${unknown}/evaluate`, { input: {} }], permission: 'execute:policies' },
    { call: ['POST', `/api/v1/policies/${unknown}/activate`, {}], permission: 'execute:policies' },
    { call: ['POST', `/api/v1/policies/${unknown}/rollback`, {}], permission: 'execute:policies' },
    { call: ['POST', `/api/v1/policies/${unknown}/deactivate`], permission: 'execute:policies' },
    { call: ['GET', '/api/v1/bundle'], permission: 'read:policies' },
    { call: ['GET', '/bundles/policies.tar.gz'], permission: 'read:policies' },
  ]
}

/** The shipped roles that a call lets in. */
export function rolesFor({ permission, ownCounts = false }: WorkCall): string[] {
  const [action, resource] = permission.split(':') as [Action, Resource]
  return SHIPPED_ROLES.filter(({ permissions }) => {
    const extent = extentOf(permissions, null, action, resource)
    return extent === 'all' || (ownCounts && extent === 'own')
  }).map(({ name }) => name)
}
