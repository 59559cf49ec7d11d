import { access, constants, readdir } from 'node:fs/promises'
import { homedir } from 'node:os'
import path from 'node:path'

/**
 * An OPA binary that is there already, for governance to compile policies with: `SIGNET_OPA`, `opa` of PATH, or what the tests of this checkout built.
 * Starting does not build one, which takes minutes and Go. undefined: none; then policies cannot be made, and everything else works.
 */
export async function locateOpa(env: Readonly<Record<string, string | undefined>>): Promise<string | undefined> {
  const cache =
    env['SIGNET_CACHE_DIR'] ??
    path.join(env['XDG_CACHE_HOME'] ?? path.join(env['HOME'] ?? homedir(), '.cache'), 'signet')
  const built = await readdir(path.join(cache, 'opa')).catch(() => [])
  const candidates = [
    ...(env['SIGNET_OPA'] === undefined ? [] : [env['SIGNET_OPA']]),
    ...(env['PATH'] ?? '').split(path.delimiter).map((folder) => path.join(folder, 'opa')),
    ...built.map((name) => path.join(cache, 'opa', name, 'opa')),
  ]
  for (const candidate of candidates) {
    const isThere = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    )
    if (isThere) return candidate
  }
  return undefined
}
