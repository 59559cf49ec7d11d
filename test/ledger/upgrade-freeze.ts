// Freezes a version's ledger for test/ledger/upgrade.test.ts: the files that its main.ts reaches, as they were at a commit, and its migrations.
//   node test/ledger/upgrade-freeze.ts COMMIT > test/ledger/upgrade-ledger-NNNN.tar.gz     NNNN: its last migration of the wall
// Needs a clone with its history. Done once for each version that an upgrade has to start from.
import { execFileSync } from 'node:child_process'
import path from 'node:path'
import { createGzip } from 'node:zlib'
import tar from 'tar-stream'

const [commit] = process.argv.slice(2)
if (commit === undefined) throw new Error('which commit?')
const git = (...args: string[]): string => execFileSync('git', args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 })
const show = (file: string): string => git('show', `${commit}:${file}`)

const IMPORTS = /(?:from|import)\s*\(?\s*'([.#][^']+)'/g
const reached = new Set<string>()
function reach(file: string): void {
  if (reached.has(file)) return
  reached.add(file)
  if (!file.endsWith('.ts')) return
  for (const [, name = ''] of show(file).matchAll(IMPORTS)) {
    reach(name.startsWith('#') ? name.slice(1) : path.join(path.dirname(file), name))
  }
}
reach('ledger/main.ts')
reach('package.json')
const sql = git('ls-tree', '-r', '--name-only', commit, 'ledger/store')
  .split('\n')
  .filter((name) => name.endsWith('.sql'))

const pack = tar.pack()
pack.pipe(createGzip({ level: 9 })).pipe(process.stdout)
for (const name of [...reached, ...sql].toSorted()) pack.entry({ name, mtime: new Date(0) }, show(name))
pack.finalize()
