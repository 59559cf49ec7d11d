import { randomBytes } from 'node:crypto'
import { chown, open, readFile, rename, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { SignetError } from '#core/error/signet-error.ts'
import { parseKeyring, type Keyring } from '#core/keyring/keyring.ts'
import { UsageError } from '../usage.ts'

/** A keyring file as it was read. */
export type KeyringFile = { readonly file: string; readonly text: string; readonly keyring: Keyring }

/** @throws UsageError where it cannot be read */
export async function readKeyringFile(file: string): Promise<KeyringFile> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new UsageError(`cannot read the keyring ${file}: ${code === 'ENOENT' ? 'there is no such file' : message}`)
  }
  try {
    return { file, text, keyring: parseKeyring(text) }
  } catch (error) {
    if (error instanceof SignetError) throw new UsageError(`the keyring ${file} cannot be used: ${error.message}`)
    throw error
  }
}

/**
 * Replaces a keyring file in one step: whoever reads it meanwhile sees the former or the next one, whole, and so does who looks after
 * a crash. Mode 0600, the owner of the former file. @throws UsageError where it was changed since it was read, or cannot be written
 */
export async function replaceKeyringFile(file: string, former: string | null, keyring: Keyring): Promise<void> {
  const text = `${JSON.stringify(keyring, null, 2)}\n`
  // What could not be read back must not take the place of what can.
  parseKeyring(text)
  const draft = path.join(path.dirname(file), `.${path.basename(file)}.${randomBytes(6).toString('hex')}`)
  try {
    const handle = await open(draft, 'wx', 0o600)
    try {
      await handle.writeFile(text)
      await handle.sync()
    } finally {
      await handle.close()
    }
    const owner = await stat(file).catch(() => null)
    if (owner !== null && process.getuid?.() === 0) await chown(draft, owner.uid, owner.gid)
    const now = await readFile(file, 'utf8').catch(() => null)
    if (now !== former)
      throw new UsageError(`the keyring ${file} was changed meanwhile: nothing was written, try again`)
    await rename(draft, file)
    const folder = await open(path.dirname(file), 'r')
    try {
      await folder.sync()
    } finally {
      await folder.close()
    }
  } catch (error) {
    await rm(draft, { force: true })
    if (error instanceof UsageError || !(error instanceof Error && 'code' in error)) throw error
    throw new UsageError(`cannot write the keyring ${file}: ${error.message}`)
  }
}
