import { spawnSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { answers, freePort, launch, type Child } from './child.ts'
import { pinned } from './cores.ts'

export type Nginx = Child & { readonly url: string }

/** `nginx/1.22.1`, or null where nginx is not installed. */
export function nginxVersion(): string | null {
  const { stderr, status } = spawnSync('nginx', ['-v'], { encoding: 'utf8' })
  return status === 0 ? (/nginx\/\S+/.exec(stderr)?.[0] ?? null) : null
}

/** One worker that serves `DIR/NAME.json` at `/NAME/…`, as an upstream that costs little. */
export function startNginxFiles(dir: string, names: readonly string[], cpus: string | undefined): Promise<Nginx> {
  const locations = names.map((name) => `location /${name}/ { try_files /${name}.json =404; }`)
  const server = `root ${dir}; location = / { return 204; } default_type application/json; types { application/json json; } ${locations.join(' ')}`
  return start(path.join(dir, 'files'), '', server, cpus)
}

/** One worker that passes everything on, over connections that it keeps. */
export function startNginxProxy(dir: string, upstream: string, cpus: string | undefined): Promise<Nginx> {
  const service = `upstream service { server ${new URL(upstream).host}; keepalive 64; keepalive_requests 1000000000; }`
  const server = 'location / { proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection ""; }'
  return start(path.join(dir, 'proxy'), service, server, cpus)
}

async function start(dir: string, upstream: string, server: string, cpus: string | undefined): Promise<Nginx> {
  await mkdir(dir, { recursive: true })
  const port = await freePort()
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${dir}/${name};`)
    .join(' ')
  const config = `
    worker_processes 1; daemon off; master_process off; pid ${dir}/pid; error_log stderr warn;
    events { worker_connections 1024; }
    http {
      access_log off; sendfile on; tcp_nopush on; open_file_cache max=64; keepalive_requests 1000000000; ${temporary}
      ${upstream}
      server { listen 127.0.0.1:${port}; ${server} }
    }`
  const file = path.join(dir, 'nginx.conf')
  await writeFile(file, config)
  // Without -e, nginx opens its built-in error log first, which takes root.
  const child = launch(pinned(cpus, ['nginx', '-e', 'stderr', '-c', file]))
  const url = `http://127.0.0.1:${port}`
  await answers(`${url}/`)
  return { ...child, url }
}
