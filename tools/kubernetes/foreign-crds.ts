import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'

type Source = { readonly module: string; readonly sum: string; readonly files: readonly string[] }

/** CRDs of others that the chart makes objects of, in the Go modules that they are published with; `sum` as in a go.sum. */
const SOURCES: readonly Source[] = [
  {
    module: 'github.com/cert-manager/cert-manager@v1.19.1',
    sum: 'h1:Txh8L/nLWTDcb7ZnXuXbTe15BxQnLbLirXmbNk0fGgY=',
    files: ['deploy/crds/cert-manager.io_certificates.yaml', 'deploy/crds/cert-manager.io_issuers.yaml'],
  },
  {
    module: 'github.com/prometheus-operator/prometheus-operator@v0.85.0',
    sum: 'h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=',
    files: ['servicemonitors', 'podmonitors', 'prometheusrules'].map(
      (name) => `example/prometheus-operator-crd/monitoring.coreos.com_${name}.yaml`,
    ),
  },
]

/** Manifests of the CRDs of cert-manager and the Prometheus operator, one a text. @throws an Error where Go is missing or the modules are others */
export async function foreignCrds(): Promise<string[]> {
  const texts: string[] = []
  for (const { module, sum, files } of SOURCES) {
    const folder = await download(module, sum)
    for (const file of files) texts.push(await readFile(path.join(folder, file), 'utf8'))
  }
  return texts
}

async function download(module: string, sum: string): Promise<string> {
  // Outside of any module, so that nothing else is resolved.
  const run = promisify(execFile)('go', ['mod', 'download', '-json', module], { cwd: tmpdir() })
  const { stdout } = await run.catch((cause: { code?: string; stdout?: string; stderr?: string }) => {
    const why =
      cause.code === 'ENOENT' ? 'install Go 1.26 or newer' : (cause.stderr ?? cause.stdout ?? '').slice(0, 300)
    throw new Error(`${module} cannot be had: ${why}`, { cause })
  })
  const { Dir: folder, Sum: found } = JSON.parse(stdout) as { Dir: string; Sum: string }
  if (found !== sum) throw new Error(`${module} has the sum ${found}, where ${sum} is expected`)
  return folder
}
