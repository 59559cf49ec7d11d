import type { Action, Permission, Resource } from './permission.ts'

export type ShippedRole = {
  readonly name: string
  readonly description: string
  readonly permissions: readonly Permission[]
}

const all = (action: Action | '*', ...resources: (Resource | '*')[]): Permission[] =>
  resources.map((resource) => ({ action, resource, extent: 'all' }))
const own = (action: Action, ...resources: Resource[]): Permission[] =>
  resources.map((resource) => ({ action, resource, extent: 'own' }))

/** What people work with; the rest is about who may work. */
const WORK = [
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
  'connectors',
  'reports',
] as const satisfies readonly Resource[]

/** Violations, and the events that they are found in, are for those who answer for them: members report, and see none. */
const OPEN_WORK = WORK.filter((resource) => resource !== 'events' && resource !== 'violations')

/** The roles that every tenant begins with. A tenant makes others beside them; these are what the release says. */
export const SHIPPED_ROLES: readonly ShippedRole[] = [
  { name: 'Admin', description: 'Everything.', permissions: all('*', '*') },
  {
    name: 'ProjectManager',
    description: 'Runs, assigns and overrides the work; does not change what is asked of it.',
    permissions: [
      ...all('read', ...OPEN_WORK),
      ...all('write', 'remediation', 'tasks', 'workflows', 'evidence', 'events'),
      ...all('execute', 'scans', 'remediation', 'tasks', 'workflows'),
      ...all('assign', 'remediation', 'tasks', 'workflows'),
      ...all('override', 'tasks', 'workflows'),
      ...all('pause', 'tasks', 'workflows'),
      ...all('export', 'reports'),
    ],
  },
  {
    name: 'Agent',
    description: 'Sees and changes its own tasks, and nothing of anybody else.',
    permissions: [
      ...own('read', 'tasks', 'remediation', 'workflows'),
      ...own('write', 'tasks', 'remediation'),
      ...own('execute', 'tasks', 'remediation'),
      ...all('write', 'events'),
    ],
  },
  { name: 'Viewer', description: 'Reads the work.', permissions: all('read', ...OPEN_WORK) },
  {
    name: 'ComplianceLead',
    description: 'Says what is asked: policies, rules, checklists, and how violations end.',
    permissions: [
      ...all('read', ...WORK, 'audit', 'users', 'roles'),
      ...all('write', ...WORK),
      ...all('execute', 'policies', 'scans', 'remediation', 'tasks', 'violations', 'workflows', 'connectors'),
      ...all('assign', 'remediation', 'tasks', 'violations', 'workflows'),
      ...all('override', 'remediation', 'tasks', 'violations', 'workflows'),
      ...all('pause', 'rules', 'tasks', 'workflows'),
      ...all('delete', 'policies', 'rules'),
      ...all('export', 'audit', 'evidence', 'reports'),
    ],
  },
  {
    name: 'Auditor',
    description: 'Reads and exports everything; changes nothing.',
    permissions: [
      ...all('read', ...WORK, 'audit', 'users', 'service-accounts', 'roles', 'tokens'),
      ...all('export', 'audit', 'evidence', 'reports'),
    ],
  },
]
