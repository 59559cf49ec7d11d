// The way in for `npm start`, `npm test`, `npm run bench` and `npx signet`: plain JavaScript, so that it runs on any Node from
// 20.19 on, before anything is installed. It installs what is missing and hands over to the project's own Node 24.
import { spawn, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = path.dirname(path.dirname(fileURLToPath(import.meta.url)))
const OWN_NODE = path.join(ROOT, 'node_modules/.bin/node')
const PARENT_POLL_MS = 500
const MINIMUM_NODE = [20, 19]
const ENTRIES = {
  up: ['cli/main.ts', 'up'],
  cli: ['cli/main.ts'],
  test: ['tools/test.ts'],
  bench: ['test/bench/main.ts'],
}

/** Progress goes to standard error: standard output belongs to the command (`--json`). */
function say(line) {
  process.stderr.write(`signet: ${line}\n`)
}

function fail(line) {
  say(line)
  process.exit(1)
}

/**
 * Whether what is installed is what the lock file says. npm keeps its own list of what it installed and writes it last, so a run
 * that was interrupted does not count; packages for other platforms are in the lock file alone.
 */
function isInstalled() {
  let installed
  try {
    installed = JSON.parse(readFileSync(path.join(ROOT, 'node_modules/.package-lock.json'), 'utf8')).packages
  } catch {
    return false
  }
  const wanted = Object.entries(JSON.parse(readFileSync(path.join(ROOT, 'package-lock.json'), 'utf8')).packages)
  return wanted.every(([where, entry]) => {
    if (where === '') return true
    const found = installed[where]
    return found === undefined ? entry.optional === true : found.version === entry.version
  })
}

/** Installs exactly what the lock file says, unless that is what is there already. */
function install() {
  if (isInstalled()) return
  say('installing dependencies with npm ci (once; about half a minute and 360 MB)')
  const startedAt = Date.now()
  // Under npm this names the npm that runs us; on its own, npm is looked up.
  const npm = process.env.npm_execpath
  const [command, ...first] = npm?.endsWith('.js') ? [process.execPath, npm] : ['npm']
  const ticker = spawnTicker()
  const done = spawnSync(command, [...first, 'ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: ROOT,
    stdio: ['ignore', 2, 2],
    // Settings of the npm that runs us (a script's name, `--silent`) are not meant for this one.
    env: { ...process.env, npm_config_ignore_scripts: 'false' },
  })
  ticker?.kill()
  if (done.error?.code === 'ENOENT') fail('npm is not installed; install Node.js 20.19 or newer, which comes with it')
  if (done.error) fail(`npm ci did not run: ${done.error.message}`)
  if (done.signal) fail(`npm ci was ended by ${done.signal}`)
  if (done.status !== 0)
    fail(`npm ci failed (exit ${done.status}, its reason is above); is the package registry within reach?`)
  if (spawnSync(OWN_NODE, ['--version']).status !== 0) {
    fail("npm package 'node' has no working binary; are install scripts switched off? run: npm rebuild node")
  }
  say(`installed in ${Math.round((Date.now() - startedAt) / 1000)} s`)
}

/** npm says nothing without a terminal; spawnSync blocks this process, so another one tells that work goes on. */
function spawnTicker() {
  if (process.stderr.isTTY) return null
  const code = `let s = 0; setInterval(() => { s += 10; process.stderr.write('signet: installing, ' + s + ' s\\n') }, 10_000)
    setInterval(() => { if (process.ppid !== ${process.pid}) process.exit() }, 1_000)`
  return spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'ignore', 2] })
}

/** The processes above this one: npm's shell and, where the system tells, npm. */
function ancestors() {
  try {
    const status = readFileSync(`/proc/${process.ppid}/status`, 'utf8')
    return `${process.ppid} ${/^PPid:\t(\d+)$/m.exec(status)?.[1]}`
  } catch {
    return String(process.ppid)
  }
}

/** Runs an entry under the project's Node and leaves as it leaves. */
function handOver([script, ...first], rest) {
  // The channel tells `up` when this process is gone, however it went.
  const stdio = first[0] === 'up' ? ['inherit', 'inherit', 'inherit', 'ipc'] : 'inherit'
  const child = spawn(OWN_NODE, [path.join(ROOT, script), ...first, ...rest], { stdio })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  // npm passes a signal on to its shell, which dies of it and tells nobody; and npm itself may be killed. Then nobody is left
  // who wants this.
  if (process.env.npm_lifecycle_event !== undefined) {
    const before = ancestors()
    setInterval(() => ancestors() === before || child.kill('SIGTERM'), PARENT_POLL_MS).unref()
  }
  child.once('error', (error) => fail(`${OWN_NODE} did not run: ${error.message}`))
  child.once('exit', (code, signal) => {
    if (signal === null) process.exit(code ?? 1)
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.removeAllListeners(name)
    process.kill(process.pid, signal)
  })
}

/** `command`: one of `ENTRIES`; `rest`: its arguments. */
export function bootstrap(command, rest) {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  if (major < MINIMUM_NODE[0] || (major === MINIMUM_NODE[0] && minor < MINIMUM_NODE[1])) {
    fail(`Node.js ${process.versions.node} is too old; install ${MINIMUM_NODE.join('.')} or newer`)
  }
  const entry = Object.hasOwn(ENTRIES, command) ? ENTRIES[command] : null
  if (entry === null) fail(`unknown entry ${JSON.stringify(command)}; use one of ${Object.keys(ENTRIES).join(', ')}`)
  install()
  handOver(entry, rest)
}

if (process.argv[1] && path.resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  bootstrap(process.argv[2] ?? '', process.argv.slice(3))
}
