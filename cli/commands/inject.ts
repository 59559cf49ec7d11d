import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { parseAllDocuments, type Document, type Tags } from 'yaml'
import { SignetError } from '#core/error/signet-error.ts'
import { checkNamespaceMap, EMPTY_NAMESPACE_MAP, type NamespaceMap } from '#core/identity/namespace-map.ts'
import { injectObject, type NamedInjection } from '../inject/object.ts'
import { parseInjectionTemplate, type InjectionTemplate } from '#core/injection/settings.ts'
import { UsageError } from '../usage.ts'

export const INJECT_HELP = `signet inject -f FILE --settings FILE   puts the sidecar into manifests, as the admission webhook does

  -f, --filename FILE   YAML or JSON, several documents, Lists; - is standard input; repeatable
  --settings FILE       what is injected: injection.json of ConfigMap signet-settings
                        kubectl -n signet-system get configmap signet-settings -o jsonpath='{.data.injection\\.json}'
  --trust-ca FILE       the platform's authority (PEM), where the settings have none: ca.crt of ConfigMap signet-trust
  --namespace-map FILE  the platform's namespace map: namespaces.json of ConfigMap signet-namespace-map
  -n, --namespace NAME  of objects that name none (default)
  --required            as if the namespace required Signet: capture redirect, no opting out
  --quiet               no warnings

Pods, Deployments, StatefulSets, DaemonSets, ReplicaSets, ReplicationControllers, Jobs, CronJobs and PodTemplates are injected unless
they say signet.dev/inject: disabled; all else passes through. What was injected is injected again. YAML goes to standard output,
warnings to standard error.

exit codes: 0 done; 1 an object that was to be injected cannot be; 2 usage, or something could not be read
`

const OPTIONS = {
  filename: { type: 'string', short: 'f', multiple: true },
  settings: { type: 'string' },
  'trust-ca': { type: 'string' },
  'namespace-map': { type: 'string' },
  namespace: { type: 'string', short: 'n' },
  required: { type: 'boolean' },
  quiet: { type: 'boolean' },
} as const

export type InjectIo = {
  readonly readStdin: () => Promise<string>
  readonly write: (text: string) => void
  readonly warn: (line: string) => void
}

/** Gives the exit code. @throws UsageError */
export async function inject(args: string[], io: InjectIo = processIo()): Promise<number> {
  const { values: flags } = parseArgs({ args, options: OPTIONS })
  const files = flags.filename ?? []
  if (files.length === 0) throw new UsageError('inject needs a file: -f FILE (- is standard input)')
  if (flags.settings === undefined)
    throw new UsageError(
      'inject needs the platform’s settings: --settings FILE; signet help inject says where they are',
    )
  const template = await loadTemplate(flags.settings, flags['trust-ca'])
  const map = await loadMap(flags['namespace-map'])
  let failed = false
  const written: string[] = []
  for (const file of files) {
    const documents = parse(file === '-' ? await io.readStdin() : await read(file), file)
    for (const document of documents) {
      const given = valueOf(document, file)
      if (given === null || given === undefined) continue
      const { injections, text } = shallow(file, () => {
        const { object, injections: made } = injectObject(given, {
          template,
          map,
          namespace: flags.namespace ?? 'default',
          required: flags.required === true,
        })
        return { injections: made, text: textOf(document, object, made) }
      })
      failed ||= injections.some(({ verdict }) => verdict === 'refuse')
      if (flags.quiet !== true) for (const line of warningsOf(injections)) io.warn(line)
      written.push(text)
    }
  }
  io.write(written.join('---\n'))
  return failed ? 1 : 0
}

function warningsOf(injections: readonly NamedInjection[]): string[] {
  return injections.flatMap(({ what, warnings }) => warnings.map((warning) => `signet: ${what}: ${warning}`))
}

/** A document that nothing was changed in keeps its comments and its form. */
function textOf(document: Document, object: unknown, injections: readonly NamedInjection[]): string {
  if (injections.every(({ changed }) => !changed)) return ended(document.toString(FORM))
  document.contents = document.createNode(object, { aliasDuplicateObjects: false }) as never
  return ended(document.toString(FORM))
}

const FORM = { lineWidth: 0 } as const

function ended(text: string): string {
  const body = text.replace(/^---\n/, '').replace(/\n\.\.\.\n?$/, '\n')
  return body.endsWith('\n') ? body : `${body}\n`
}

/**
 * As kubectl reads YAML: the booleans and octal numbers of YAML 1.1 (`off`, `0755`), without its times of day and dates. What is written
 * is quoted accordingly, so that an annotation `"off"` does not come out as a boolean.
 */
function parse(text: string, file: string): Document[] {
  const documents = shallow(file, () =>
    parseAllDocuments(text, {
      version: '1.1',
      merge: true,
      customTags: (tags: Tags): Tags =>
        tags.filter((tag) => typeof tag === 'string' || !(isTime(tag) || tag.tag === 'tag:yaml.org,2002:timestamp')),
    }),
  )
  if (!Array.isArray(documents)) return []
  for (const document of documents) {
    const [error] = document.errors
    if (error !== undefined)
      throw new UsageError(`${file} is not YAML: ${error.message.split('\n', 1)[0] ?? 'it cannot be read'}`)
  }
  return documents
}

/** What the document says. Aliases that make much of little are refused. */
function valueOf(document: Document, file: string): unknown {
  return shallow(file, () => {
    try {
      return document.toJS({ maxAliasCount: MAX_ALIASES }) as unknown
    } catch (error) {
      if (error instanceof ReferenceError && /alias/i.test(error.message))
        throw new UsageError(`${file} has aliases that repeat more than ${MAX_ALIASES} things, or that nothing names`)
      throw error
    }
  })
}

const MAX_ALIASES = 1_000

/** What is nested deeper than the stack is the file's fault, not ours. */
function shallow<T>(file: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (error instanceof RangeError && error.message.includes('call stack'))
      throw new UsageError(`${file} is nested too deep`)
    throw error
  }
}

function isTime(tag: object): boolean {
  return 'format' in tag && tag.format === 'TIME'
}

async function loadTemplate(file: string, caFile: string | undefined): Promise<InjectionTemplate> {
  const value = await loadObject(file)
  const withCa = caFile === undefined ? value : { ...value, trustCa: await read(caFile) }
  try {
    return parseInjectionTemplate(withCa)
  } catch (error) {
    if (!(error instanceof SignetError)) throw error
    const hint = 'trustCa' in withCa ? '' : ' (name the platform’s authority with --trust-ca FILE)'
    throw new UsageError(`${file}: ${error.message}${hint}`)
  }
}

async function loadMap(file: string | undefined): Promise<NamespaceMap> {
  if (file === undefined) return EMPTY_NAMESPACE_MAP
  try {
    return checkNamespaceMap(await loadObject(file), file)
  } catch (error) {
    if (error instanceof SignetError) throw new UsageError(error.message)
    throw error
  }
}

async function loadObject(file: string): Promise<object> {
  const [document] = parse(await read(file), file)
  const value = document === undefined ? undefined : valueOf(document, file)
  if (typeof value !== 'object' || value === null) throw new UsageError(`${file} holds no object`)
  return value
}

async function read(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new UsageError(`cannot read ${file}: ${code === 'ENOENT' ? 'there is no such file' : message}`)
  }
}

function processIo(): InjectIo {
  return {
    async readStdin() {
      const chunks: Buffer[] = []
      for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
      return Buffer.concat(chunks).toString('utf8')
    },
    write: (text) => void process.stdout.write(text),
    warn: (line) => void process.stderr.write(`${line}\n`),
  }
}
