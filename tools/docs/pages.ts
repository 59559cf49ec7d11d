import type { TObject } from 'typebox'
import { DEMO_CONFIG } from '#cli/demo/config.ts'
import { TRIAL_CONFIG } from '#cli/trial/config.ts'
import { UP_CONFIG } from '#cli/up/config.ts'
import { ERROR_CODES } from '#core/error/codes.ts'
import { ACTIONS, extentOf, RESOURCES } from '#governance/access/permission.ts'
import { SHIPPED_ROLES } from '#governance/access/shipped-roles.ts'
import { CREATE_TENANT_CONFIG, GOVERNANCE_CONFIG, GOVERNANCE_MIGRATE_CONFIG } from '#governance/config.ts'
import { INIT_KEYS_CONFIG, LEDGER_CONFIG, MIGRATE_CONFIG } from '#ledger/config.ts'
import { OPERATOR_CONFIG } from '#operator/config.ts'
import { RedirectEnvironment } from '#operator/redirect/config.ts'
import { ProxyEnvironment } from '#proxy/config.ts'
import { describeConfig, type ConfigVariable } from '#runtime/config.ts'
import { problemType } from '#runtime/http/problem.ts'

/** Reference pages that are made from the code; `test/docs` fails when a page in the tree is not what this gives. */
export const PAGES: Readonly<Record<string, () => string>> = {
  'docs/reference/config.md': configPage,
  'docs/reference/errors.md': errorsPage,
  'docs/reference/permissions.md': permissionsPage,
}

type Process = { readonly title: string; readonly about: string; readonly schema: TObject }

const PROCESSES: readonly Process[] = [
  { title: 'Proxy', about: '`node proxy/main.ts`, one beside each workload.', schema: ProxyEnvironment },
  { title: 'Ledger', about: '`node ledger/main.ts`.', schema: LEDGER_CONFIG },
  {
    title: 'Ledger migration',
    about: '`node ledger/main.ts migrate`: brings both databases up to date and leaves.',
    schema: MIGRATE_CONFIG,
  },
  {
    title: 'Ledger keys',
    about: '`node ledger/main.ts init-keys`: makes the keys of a ledger in a cluster, once, and leaves.',
    schema: INIT_KEYS_CONFIG,
  },
  { title: 'Governance', about: '`node governance/main.ts`.', schema: GOVERNANCE_CONFIG },
  {
    title: 'Governance migration',
    about: '`node governance/main.ts migrate`: brings its database up to date and leaves.',
    schema: GOVERNANCE_MIGRATE_CONFIG,
  },
  {
    title: 'A new tenant',
    about: '`node governance/main.ts create-tenant`: makes a tenant with its first user, and leaves.',
    schema: CREATE_TENANT_CONFIG,
  },
  { title: 'Operator', about: '`node operator/main.ts`, in a cluster.', schema: OPERATOR_CONFIG },
  {
    title: 'Redirect',
    about: '`node operator/redirect/main.ts`: the init container of pods with `signet.dev/capture: redirect`.',
    schema: RedirectEnvironment,
  },
  {
    title: 'Trial database',
    about: '`node cli/trial/main.ts`: an embedded PostgreSQL server for a trial in a cluster.',
    schema: TRIAL_CONFIG,
  },
  {
    title: 'signet up',
    about: '`npm start`; what it does not know it passes on to the proxy, the ledger and governance.',
    schema: UP_CONFIG,
  },
  { title: 'Demo service', about: '`node cli/demo/main.ts`; `npm start` starts it.', schema: DEMO_CONFIG },
]

/** Variables that no process reads through a schema: of builds and tests. */
export const TOOL_VARIABLES: readonly (readonly [name: string, description: string])[] = [
  ['SIGNET_OPA', 'Path of an OPA binary to use in place of the one that is built.'],
  ['SIGNET_KAFKA_JARS', 'Folder of Kafka’s jars that tests use in place of those that are fetched.'],
  [
    'SIGNET_VERSITYGW',
    'Path of a versitygw binary (the object store of tests) to use in place of the one that is built.',
  ],
  ['SIGNET_SCHEMATHESIS', 'Path of a schemathesis command (`st`, 4.x) to use in place of the one that is installed.'],
  [
    'SIGNET_FUZZ_SECONDS',
    'How long `npm run test:fuzz` sends random requests; 600 there, and none where tests run otherwise.',
  ],
  ['SIGNET_FUZZ_SEED', 'The seed of a run of the fuzzer that is to be repeated.'],
  ['SIGNET_KUBERNETES_BIN', 'Folder of Kubernetes binaries that tests use in place of those that are built.'],
  [
    'SIGNET_HELM',
    'Path of another Helm, 3.x or 4.x, to try the chart with: `vitest run --project operator test/operator/chart`.',
  ],
  ['SIGNET_CACHE_DIR', 'Where built tools are kept. Default: `${XDG_CACHE_HOME}/signet`, else `~/.cache/signet`.'],
]

function configPage(): string {
  const sections = PROCESSES.map(
    ({ title, about, schema }) => `## ${title}\n\n${about}\n\n${table(describeConfig(schema))}`,
  )
  const tools = TOOL_VARIABLES.map(([name, description]) => `| \`${name}\` | ${description} |`)
  return `# Configuration

<!-- Made from the code by \`node tools/docs/write-pages.ts\`; change the schemas, not this page. -->

Every process reads its configuration once, from environment variables, before a port opens. A value that is not allowed ends
the start with exit status 78 and a line for each problem: the variable, the value (unless it is a secret) and what is allowed.
An empty value counts as not set. Durations are in milliseconds (\`…_MS\`), sizes in bytes (\`…_BYTES\`). A \`SIGNET_\` variable
that a process does not know is reported in its log.

${sections.join('\n\n')}

## Builds and tests

| variable | what it is |
| --- | --- |
${tools.join('\n')}
`
}

function table(variables: readonly ConfigVariable[]): string {
  const rows = variables.map(({ name, required, secret, allowed, defaultValue, description }) => {
    const standard =
      defaultValue === null
        ? required
          ? '**required**'
          : 'not set'
        : defaultValue === ''
          ? 'empty'
          : `\`${defaultValue}\``
    return `| \`${name}\` | ${cell(description)}${secret ? ' Secret.' : ''} | ${cell(allowed)} | ${standard} |`
  })
  return ['| variable | what it is | allowed | default |', '| --- | --- | --- | --- |', ...rows].join('\n')
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ')
}

function errorsPage(): string {
  const rows = Object.entries(ERROR_CODES).map(
    ([code, { status, title }]) => `| \`${code}\` | ${status} | ${cell(title)} |`,
  )
  return `# Errors

<!-- Made from the code by \`node tools/docs/write-pages.ts\`; change \`core/error/codes.ts\`, not this page. -->

The closed list of error codes. A code never changes its meaning. Over HTTP an error is an \`application/problem+json\` document
(RFC 9457) with the status below; its \`type\` is the code in lower case with dashes (\`${problemType('POLICY_DENIED')}\`),
\`code\` is the code itself, \`detail\` says what was wrong, where, and what is allowed. An error that Signet did not foresee is
\`INTERNAL\`; its reason is in the log only.

| code | status | meaning |
| --- | --- | --- |
${rows.join('\n')}

## Exit statuses

| status | of | meaning |
| --- | --- | --- |
| 0 | all | done; a process that was told to stop has drained |
| 1 | \`signet verify\` | invalid: the output says which check failed |
| 1 | \`signet doctor\` | something in the cluster is not as it should be |
| 1 | others | failed; one line on standard error says why |
| 2 | \`signet\` | usage, or a file, URL or ledger could not be read |
| 3 | \`signet verify\` | intact, but not all of the subject was checked |
| 3 | \`signet doctor\` | nothing wrong was found, but not all could be looked at |
| 78 | processes | the configuration is not valid (\`CONFIG_INVALID\`) |
| 130, 143 | processes | left at once on a second SIGINT, SIGTERM |
`
}

function permissionsPage(): string {
  const marks = { all: '●', own: '○' } as const
  const sections = SHIPPED_ROLES.map(({ name, description, permissions }) => {
    const rows = RESOURCES.map((resource) => {
      const cells = ACTIONS.map((action) => {
        const extent = extentOf(permissions, null, action, resource)
        return extent === null ? ' ' : marks[extent]
      })
      return `| \`${resource}\` | ${cells.join(' | ')} |`
    })
    const head = `| | ${ACTIONS.join(' | ')} |\n|---|${ACTIONS.map(() => ':-:').join('|')}|`
    return `## ${name}\n\n${description}\n\n${head}\n${rows.join('\n')}`
  })
  return `# Permissions of the shipped roles

<!-- Made from the code by \`node tools/docs/write-pages.ts\`; change the roles, not this page. -->

A permission is an action on a resource; ● on all of a tenant's, ○ on what is one's own (assigned to, or made by, the one who asks). Roles of
your own stand beside these (\`POST /api/v1/roles\`); nobody gives a permission that they do not have.

${sections.join('\n\n')}
`
}
