import pg from 'pg'

/** Runs `work` as superuser. */
export async function asAdmin<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client(url)
  client.on('error', () => undefined)
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

/** Sets server settings for good (`ALTER SYSTEM`); those that need no restart hold at once. */
export async function configure(url: string, settings: Readonly<Record<string, string>>): Promise<void> {
  await asAdmin(url, async (client) => {
    for (const [name, value] of Object.entries(settings))
      await client.query(`ALTER SYSTEM SET ${pg.escapeIdentifier(name)} = ${pg.escapeLiteral(value)}`)
    await client.query('SELECT pg_reload_conf()')
  })
}
