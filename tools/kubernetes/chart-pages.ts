import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { isMap, isScalar, parseDocument, type Pair, type YAMLMap } from 'yaml'
import { DASHBOARDS, dashboardJson } from './dashboards.ts'

const ROOT = path.resolve(import.meta.dirname, '../..')
const read = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8')

/** Files of the charts and their page that are made from others; `test/operator/chart.test.ts` fails when one in the tree is not this. */
export function chartFiles(): Record<string, string> {
  const dashboards = DASHBOARDS.map((one) => [
    `charts/signet/dashboards/${one.uid.replace(/^signet-/, '')}.json`,
    dashboardJson(one),
  ])
  return {
    'docs/reference/values.md': valuesPage(read('charts/signet/values.yaml')),
    ...crdTemplates(),
    ...Object.fromEntries(dashboards),
  }
}

/** `crds/` as templates: rules are worth more than a release, so that uninstalling leaves them, unless told otherwise. */
export function crdTemplates(folder = path.join(ROOT, 'crds')): Record<string, string> {
  const files = readdirSync(folder).filter((name) => name.endsWith('.yaml'))
  return Object.fromEntries(
    files.map((name) => [
      `charts/signet-crds/templates/${name}`,
      crdTemplate(readFileSync(path.join(folder, name), 'utf8')),
    ]),
  )
}

const KEEP = `  annotations:
    {{- if .Values.keep }}
    helm.sh/resource-policy: keep
    {{- end }}
    signet.dev/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
`

/** A CRD as a template. What looks like one in it (a description, a rule) is kept as it is. */
export function crdTemplate(yaml: string): string {
  const escaped = yaml.replaceAll('{{', '{{ "{{" }}')
  const lines = escaped.split('\n')
  const metadata = lines.indexOf('metadata:')
  if (metadata < 0 || lines.includes('  annotations:')) {
    throw new Error('a CRD with one `metadata:` and no annotations is expected')
  }
  lines.splice(metadata + 1, 0, KEEP.trimEnd())
  return `{{- /* Made from crds/ by tools/kubernetes/write-chart.ts. */ -}}\n${lines.join('\n')}`
}

/** `docs/reference/values.md` from the comments of values.yaml. @throws where a value has none */
export function valuesPage(yaml: string): string {
  const document = parseDocument(yaml)
  const root = document.contents
  if (!isMap(root)) throw new Error('values.yaml is not a mapping')
  const sections = root.items.map((pair) => {
    const { key, comment } = about(pair, '', pair === root.items[0] ? (root.commentBefore ?? null) : null)
    const rows = isSection(pair.value) ? rowsOf(pair.value, key) : [row(key, pair.value, comment)]
    return `## \`${key}\`\n\n${comment}\n\n| value | default | what it does |\n| --- | --- | --- |\n${rows.join('\n')}`
  })
  return `# Values of the chart

<!-- Made from charts/signet/values.yaml by \`node tools/kubernetes/write-chart.ts\`; change that file, not this page. -->

\`values.schema.json\` refuses what is not listed here, with the place and what is allowed. Ready sets of values are in
[install.md](../install.md).

${sections.join('\n\n')}
`
}

/** A value with documented parts; anything else is a value of its own, whatever is in it. */
function isSection(value: unknown): value is YAMLMap {
  return isMap(value) && value.flow !== true && value.items.length > 0 && (value.commentBefore ?? '') !== ''
}

function rowsOf(map: YAMLMap, prefix: string): string[] {
  return map.items.flatMap((item, index) => {
    const pair: Pair = item
    const { key, comment } = about(pair, prefix, index === 0 ? (map.commentBefore ?? null) : null)
    return isSection(pair.value) ? rowsOf(pair.value, key) : [row(key, pair.value, comment)]
  })
}

function about(pair: Pair, prefix: string, first: string | null): { key: string; comment: string } {
  if (!isScalar(pair.key)) throw new Error(`${prefix}: a key that is no text`)
  const key = `${prefix === '' ? '' : `${prefix}.`}${String(pair.key.value)}`
  const own = pair.key.commentBefore ?? first
  if (own === null || own === undefined || own.trim() === '') throw new Error(`${key} has no comment in values.yaml`)
  // What stands apart, by an empty line, is about the file.
  const comment = own.split(/\n\s*\n/).at(-1) ?? ''
  return {
    key,
    comment: comment
      .split('\n')
      .map((line) => line.trim())
      .join(' ')
      .trim(),
  }
}

function row(key: string, value: unknown, comment: string): string {
  const plain = (value as { toJSON?: () => unknown } | null)?.toJSON?.()
  const standard = plain === '' ? 'empty' : `\`${JSON.stringify(plain).replaceAll('|', '\\|')}\``
  return `| \`${key}\` | ${standard} | ${comment.replaceAll('|', '\\|')} |`
}
