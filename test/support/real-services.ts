import { spawn, spawnSync } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** A service that nobody here wrote, as a child process on a port of its own. */
export type RealService = {
  /** For the test's output: which one it is, and its version. */
  readonly name: string
  readonly url: string
  stop(): Promise<void>
}
export type FileService = RealService & {
  readonly kind: 'nginx' | 'npm'
  /** What it serves at `/data/`. */
  readonly files: string
}

const require = createRequire(import.meta.url)
const JSON_SERVER = path.join(path.dirname(require.resolve('json-server/package.json')), 'lib/cli/bin.js')
/** Real CSV and JSON data sets of the Vega project: statistics, maps, flights, films, people. */
export const DATA_SETS = path.dirname(require.resolve('vega-datasets/data/cars.json'))

export async function readDataSet(name: string): Promise<Buffer> {
  return readFile(path.join(DATA_SETS, name))
}

/**
 * json-server (npm) with a data base of real data: `/cars`, `/movies` and `/capitals` name nobody who lives, `/riots` is a table of
 * people with first and last names, `/meta` is a single object.
 */
export async function startJsonServer(): Promise<RealService> {
  const dir = await mkdtemp(path.join(tmpdir(), 'signet-json-server-'))
  const rows = async (name: string): Promise<object[]> => JSON.parse((await readDataSet(name)).toString()) as object[]
  const numbered = (list: readonly object[]): object[] => list.map((row, index) => ({ id: index + 1, ...row }))
  const database = {
    cars: numbered(await rows('cars.json')),
    movies: numbered((await rows('movies.json')).slice(0, 300)),
    capitals: numbered(await rows('us-state-capitals.json')),
    riots: numbered(parseCsv((await readDataSet('la-riots.csv')).toString()).slice(0, 20)),
    meta: { title: 'Vega data sets', licence: 'BSD-3-Clause', sources: 3 },
  }
  const file = path.join(dir, 'db.json')
  await writeFile(file, JSON.stringify(database))
  return startJsonServerOn(dir, [file])
}

/** nginx where it is installed, else the static files of json-server (express): the data sets at `/data/`. */
export async function startFileServer(): Promise<FileService> {
  const version = nginxVersion()
  const dir = await mkdtemp(path.join(tmpdir(), 'signet-files-'))
  const files = path.join(dir, 'www/data')
  await mkdir(files, { recursive: true })
  for (const name of FILES) await copyFile(path.join(DATA_SETS, name), path.join(files, name))
  if (version !== null) return { ...(await startNginx(dir, version)), kind: 'nginx', files }
  const database = path.join(dir, 'db.json')
  await writeFile(database, '{"unused":[]}')
  const service = await startJsonServerOn(dir, [database, '--static', 'www'])
  return { ...service, kind: 'npm', files, name: `${service.name}, static files (nginx is not installed)` }
}

/** What of the data sets is served: every kind, from 77 bytes to 4 MB. */
const FILES = `
  airports.csv birdstrikes.json disasters.csv flights-airport.csv github.csv iowa-electricity.csv la-riots.csv
  lookup_groups.csv lookup_people.csv seattle-weather.csv sp500.csv stocks.csv us-employment.csv weather.csv
  zipcodes.csv unemployment.tsv flights-3m.csv anscombe.json barley.json budgets.json cars.json countries.json
  earthquakes.json flare.json flights-5k.json gapminder.json income.json jobs.json londonBoroughs.json
  miserables.json movies.json obesity.json ohlc.json population.json us-10m.json volcano.json weball26.json
  world-110m.json flights-200k.arrow ffox.png 7zip.png`
  .trim()
  .split(/\s+/)

function nginxVersion(): string | null {
  const { stderr, status } = spawnSync('nginx', ['-v'], { encoding: 'utf8', env: nginxEnv() })
  return status === 0 ? (/nginx\/\S+/.exec(stderr)?.[0] ?? 'nginx') : null
}

/** Debian has nginx where only root's PATH looks. */
function nginxEnv(): NodeJS.ProcessEnv {
  return { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/usr/local/sbin` }
}

async function startNginx(dir: string, version: string): Promise<RealService> {
  const port = await freePort()
  const { stderr: build } = spawnSync('nginx', ['-V'], { encoding: 'utf8', env: nginxEnv() })
  const types = path.join(path.dirname(/--conf-path=(\S+)/.exec(build)?.[1] ?? '/etc/nginx/nginx.conf'), 'mime.types')
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${dir}/${name};`,
  )
  // As its administrators set it up: compression on, listings on, ETags as they come. /stock/ has the types that nginx
  // ships with, which know no CSV; /typeless/ calls everything text.
  const config = `
    ${process.getuid?.() === 0 ? 'user root;' : ''}
    worker_processes 1; daemon off; pid ${dir}/nginx.pid; error_log stderr warn;
    events { worker_connections 256; }
    http {
      include ${types}; types { text/csv csv; text/tab-separated-values tsv; }
      default_type application/octet-stream;
      access_log off; sendfile on; gzip on; gzip_types *; ${temporary.join(' ')}
      server {
        listen 127.0.0.1:${port};
        root ${dir}/www;
        location / { autoindex on; }
        location /stock/ { alias ${dir}/www/data/; include ${types}; }
        location /typeless/ { alias ${dir}/www/data/; types { } default_type text/plain; }
      }
    }`
  const file = path.join(dir, 'nginx.conf')
  await writeFile(file, config)
  const service = await launch('nginx', ['-e', 'stderr', '-c', file], {
    url: `http://127.0.0.1:${port}`,
    dir,
    env: nginxEnv(),
  })
  return { ...service, name: version }
}

async function startJsonServerOn(dir: string, args: string[]): Promise<RealService> {
  const port = await freePort()
  const { version } = JSON.parse(await readFile(require.resolve('json-server/package.json'), 'utf8')) as {
    version: string
  }
  const service = await launch(
    process.execPath,
    [JSON_SERVER, '--quiet', '--host', '127.0.0.1', '--port', String(port), ...args],
    { url: `http://127.0.0.1:${port}`, dir, env: { PATH: process.env['PATH'] } },
  )
  return { ...service, name: `json-server ${version}` }
}

async function launch(
  program: string,
  args: string[],
  { url, dir, env }: { url: string; dir: string; env: NodeJS.ProcessEnv },
): Promise<Omit<RealService, 'name'>> {
  const child = spawn(program, args, { cwd: dir, env, stdio: ['pipe', 'ignore', 'pipe'] })
  let output = ''
  child.stderr.on('data', (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-16_384)
  })
  const exited = once(child, 'exit')
  exited.catch(() => undefined)
  for (const deadline = Date.now() + 20_000; ;) {
    if (child.exitCode !== null) throw new Error(`${program} ended with ${child.exitCode}: ${output}`)
    const answer = await fetch(url).catch(() => null)
    await answer?.arrayBuffer()
    if (answer !== null) break
    if (Date.now() > deadline) throw new Error(`${program} does not answer: ${output}`)
    await sleep(30)
  }
  return {
    url,
    async stop() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
      await exited
      await rm(dir, { recursive: true, force: true })
    },
  }
}

/**
 * A port that was free a moment ago, for programs that cannot say which one they took; from below the range that the kernel takes the
 * ends of connections from (32768 on), so that nobody has it by chance a moment later.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(15_000, 32_000)
    const server = net.createServer()
    const free = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false))
      server.listen(port, '127.0.0.1', () => resolve(true))
    })
    if (!free) continue
    await new Promise((resolve) => server.close(resolve))
    return port
  }
}

/** Rows by header, for a file whose values hold no line feeds. */
function parseCsv(text: string): Record<string, string>[] {
  const [header = '', ...lines] = text.trim().split(/\r?\n/)
  const names = header.split(',')
  return lines.map((line) => {
    const values =
      line.match(/("([^"]|"")*"|[^,]*)(,|$)/g)?.map((value) => value.replace(/,$/, '').replace(/^"|"$/g, '')) ?? []
    return Object.fromEntries(names.map((name, index) => [name, values[index] ?? '']))
  })
}
