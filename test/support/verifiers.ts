import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { parseStampHeader } from '#core/stamp/header.ts'
import type { Channel } from '#core/stamp/schema.ts'
import type { ClientAnswer } from './http-clients.ts'

/** What somebody who verifies says that the answer should be. */
export type Claim = {
  readonly target: string
  readonly method: string
  readonly status: number
  readonly tenant: string
  readonly channel: Channel
}
/** An answer as saved to a disk: its body, and its stamp where it is not in the body. */
export type Evidence = {
  readonly body: Buffer
  readonly place: 'embedded' | 'header' | 'sidecar'
  readonly stamp: Buffer | string | null
}
export type Verdict = { readonly code: number | null; readonly output: string; readonly hash: string | null }

const CLI = path.resolve(import.meta.dirname, '../../cli/main.ts')
const PYTHON_VERIFIER = path.resolve(import.meta.dirname, '../verifiers/python')
/** Calls the verifier's own `main` once for each command line on stdin. */
const PYTHON_BATCH = `
import contextlib, io, json, sys
sys.path.insert(0, sys.argv[1])
import signet_verify
for line in sys.stdin:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = signet_verify.main(json.loads(line))
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue()]))
`

/**
 * Where the stamp of an answer is: in its body, in its header, or where its `Link` points. Null where the answer has none.
 * `base`: the URL that was asked.
 */
export async function locateStamp(base: string, answer: ClientAnswer): Promise<Evidence | null> {
  const header = answer.headers.get('compliance-stamp')
  const { body } = answer
  if (header !== undefined && parseStampHeader(header).stampBytes !== undefined)
    return { body, place: 'header', stamp: header }
  if (header !== undefined && body.includes('"_compliance":')) return { body, place: 'embedded', stamp: null }
  const link = stampLink(answer)
  if (link === null) return null
  for (let attempt = 0; ; attempt++) {
    const served = await fetch(new URL(link, base))
    const bytes = Buffer.from(await served.arrayBuffer())
    if (served.status === 200) return { body, place: 'sidecar', stamp: bytes }
    // The stamp of a stream is made when its last byte has left.
    if (attempt === 20) throw new Error(`${link} answers ${served.status}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

export function stampLink(answer: ClientAnswer): string | null {
  return (
    /<([^>]*\/\.well-known\/signet\/(?:stamps|requests)\/[^>]*)>; rel="describedby"/.exec(
      answer.headers.get('link') ?? '',
    )?.[1] ?? null
  )
}

/** The command line tool and the verifier in Python, on files in a folder of their own. */
export async function openVerifiers(): Promise<Verifiers> {
  return new Verifiers(await mkdtemp(path.join(tmpdir(), 'signet-verifiers-')))
}

export class Verifiers {
  readonly #dir: string
  #files = 0

  constructor(dir: string) {
    this.#dir = dir
  }

  /** Flags and file for both: they take the same. What `claim` leaves out is not expected of the subject. */
  async commandLine(evidence: Evidence, keyringFile: string, claim: Partial<Claim>): Promise<string[]> {
    const args = ['--keyring', keyringFile]
    for (const [name, value] of Object.entries(claim)) args.push(`--${name}`, String(value))
    if (evidence.place === 'header') args.push('--stamp-header', String(evidence.stamp))
    const file = path.join(this.#dir, `answer-${++this.#files}`)
    await writeFile(file, evidence.body)
    // Beside it, where both find it by themselves.
    if (evidence.place === 'sidecar') await writeFile(`${file}.stamp.json`, evidence.stamp ?? '')
    return [...args, file]
  }

  /** `signet verify`, a process for each; results in order. */
  cli(commandLines: readonly (readonly string[])[]): Promise<Verdict[]> {
    return pooled(commandLines, 3, async (args) => {
      const { code, output } = await this.run(process.execPath, [CLI, 'verify', '--json', ...args])
      return { code, output, hash: /"stamp_hash": "(sha256:[0-9a-f]{64})"/.exec(output)?.[1] ?? null }
    })
  }

  /** The verifier in Python, one process for all. */
  async python(commandLines: readonly (readonly string[])[]): Promise<Verdict[]> {
    const input = commandLines.map((args) => `${JSON.stringify(args)}\n`).join('')
    const { code, output } = await this.run('python3', ['-X', 'utf8', '-B', '-c', PYTHON_BATCH, PYTHON_VERIFIER], input)
    const results = output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as [number, string])
    if (code !== 0 || results.length !== commandLines.length) throw new Error(`python3 ended with ${code}: ${output}`)
    return results.map(([exit, text]) => ({
      code: exit,
      output: text,
      hash: /^sha256:[0-9a-f]{64}/.exec(text)?.[0] ?? null,
    }))
  }

  /** No `signet up` nearby is taken into account: verification is offline, with what the command line says. */
  run(program: string, args: readonly string[], input = ''): Promise<{ code: number | null; output: string }> {
    return new Promise((resolve, reject) => {
      const env = { PATH: process.env['PATH'], SIGNET_STATE_DIR: path.join(this.#dir, 'none') }
      const child = spawn(program, args, { cwd: this.#dir, env, stdio: ['pipe', 'pipe', 'pipe'] })
      let output = ''
      child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
      child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
      child.stdin.on('error', () => undefined)
      child.once('error', reject)
      child.once('close', (code) => resolve({ code, output }))
      child.stdin.end(input)
    })
  }

  close(): Promise<void> {
    return rm(this.#dir, { recursive: true, force: true })
  }
}

async function pooled<T, R>(items: readonly T[], width: number, work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  const queue = items.entries()
  const worker = async (): Promise<void> => {
    for (const [index, item] of queue) results[index] = await work(item)
  }
  await Promise.all(Array.from({ length: width }, worker))
  return results
}
