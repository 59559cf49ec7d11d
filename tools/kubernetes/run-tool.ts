import { spawn } from 'node:child_process'

const PACKAGES: Readonly<Record<string, string>> = {
  buildah: 'buildah',
  mmdebstrap: 'mmdebstrap',
  iptables: 'iptables',
  ip: 'iproute2',
  nsenter: 'util-linux',
  mount: 'mount',
  sysctl: 'procps',
}

/** Standard output of a program of the system. @throws with the end of what it said, or with the package to install */
export function runTool(
  command: string,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; cwd?: string; input?: string; timeoutMs?: number } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, ...options.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` }
    const child = spawn(command, args, {
      env,
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs, killSignal: 'SIGKILL' }),
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    let [output, tail] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (output += chunk))
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (tail = (tail + chunk).slice(-4096)))
    child.stdin.on('error', () => undefined)
    child.stdin.end(options.input ?? '')
    child.once('error', (cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'ENOENT') reject(cause)
      else reject(new Error(missingTool(command), { cause }))
    })
    child.once('close', (code, signal) => {
      if (code === 0) resolve(output)
      else {
        // Some say on stdout what is wrong, as `signet verify --json` does.
        const said = tail.trim() || output.slice(-4096).trim()
        reject(new Error(`${command} ${args.join(' ').slice(0, 300)} ended with ${signal ?? code}: ${said}`))
      }
    })
  })
}

export function missingTool(command: string): string {
  return `${command} is missing; install it (Debian: apt-get install ${PACKAGES[command] ?? command})`
}
