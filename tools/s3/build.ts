import { ensureGoTool, isExecutable, type GoTool } from '#tools/go/build.ts'

const VERSITYGW: GoTool = {
  label: 'the object store',
  name: 'versitygw',
  cacheFolder: 's3',
  moduleDirectory: import.meta.dirname,
  package: 'github.com/versity/versitygw/cmd/versitygw',
  arguments: ['build', '-trimpath', '-ldflags', '-s -w'],
  duration: '1 to 3 minutes',
  otherwise: 'set SIGNET_VERSITYGW=/path/to/versitygw',
  fail: (message, cause) => new Error(message, { cause }),
}

/**
 * The path of the pinned S3 gateway of the tests, which enforces object lock: built from `tools/s3/go.mod` once into the cache (see
 * `ensureGoTool`), or named by `SIGNET_VERSITYGW`. @throws an Error that says in one line what is missing
 */
export async function ensureObjectStore(
  options: { onProgress?: (line: string) => void; env?: NodeJS.ProcessEnv } = {},
): Promise<string> {
  const env = options.env ?? process.env
  const named = env['SIGNET_VERSITYGW']
  if (named) {
    if (await isExecutable(named)) return named
    throw new Error(`SIGNET_VERSITYGW names ${named}, which is not an executable file`)
  }
  const onProgress = options.onProgress ?? ((line: string) => process.stderr.write(`${line}\n`))
  return ensureGoTool(VERSITYGW, { env, onProgress })
}

// `node tools/s3/build.ts` prints the path.
if (import.meta.main) process.stdout.write(`${await ensureObjectStore()}\n`)
