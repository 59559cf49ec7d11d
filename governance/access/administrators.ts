import { SignetError } from '#core/error/signet-error.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import { countAdministrators } from '../store/access.ts'

/**
 * After a change to users, roles or bindings: somebody who may do everything is still there.
 * @throws SignetError CONFLICT, which undoes the change
 */
export async function requireAdministrator(client: Client, tenant: string): Promise<void> {
  if ((await countAdministrators(client, tenant)) === 0)
    throw new SignetError(
      'CONFLICT',
      'nobody would be left who may do everything; give somebody else the role Admin first',
    )
}
