import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import pg from 'pg'
import type { TestDatabase } from './ledger.ts'

/**
 * Which of the texts stand anywhere in a database server's files: tables, indexes, and the log that they are written ahead to. PostgreSQL
 * compresses what is long; so the rows are looked through besides, as text.
 */
export async function findInDatabase(
  { database, dataDir }: { database: TestDatabase; dataDir: string },
  texts: readonly string[],
): Promise<string[]> {
  const admin = new pg.Client({ connectionString: database.adminUrl })
  await admin.connect()
  const found = new Set<string>()
  try {
    await admin.query('CHECKPOINT')
    const { rows: tables } = await admin.query<{ name: string }>(
      `SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname = 'signet'`,
    )
    for (const { name } of tables) {
      const { rows } = await admin.query<{ record: Record<string, unknown> }>(
        `SELECT to_jsonb(t) AS record FROM ${name} t`,
      )
      for (const { record } of rows) {
        // Bytes show as \x and hex.
        const text = JSON.stringify(record).replaceAll(/\\\\x((?:[0-9a-f]{2})+)/g, (_, hex: string) =>
          Buffer.from(hex, 'hex').toString('latin1'),
        )
        for (const one of texts)
          if (text.includes(Buffer.from(one).toString('latin1')) || text.includes(one)) found.add(one)
      }
    }
  } finally {
    await admin.end()
  }
  for (const entry of await readdir(dataDir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const content = await readFile(path.join(entry.parentPath, entry.name)).catch(() => Buffer.alloc(0))
    for (const one of texts) if (content.includes(one)) found.add(one)
  }
  return [...found]
}
