import type { Client } from '#runtime/postgres/transaction.ts'
import type { Statement } from '../frameworks/checklist.ts'

type Row = {
  framework: string
  control: string
  status: Statement['status']
  owner: string
  note: string
  evidence: string[]
  valid_until: Date | null
  version: number
  updated_by: string
  updated_at: Date
}

/** By control. */
export async function findStatements(
  client: Client,
  tenant: string,
  framework: string,
): Promise<Map<string, Statement>> {
  const { rows } = await client.query<Row>(
    'SELECT * FROM signet.control_statements WHERE tenant = $1 AND framework = $2',
    [tenant, framework],
  )
  return new Map(rows.map((row) => [row.control, asStatement(row)]))
}

export async function findStatement(
  client: Client,
  tenant: string,
  framework: string,
  control: string,
): Promise<Statement | null> {
  // A row that is not there cannot be locked: whoever comes second waits here.
  await client.query(
    "SELECT pg_advisory_xact_lock(hashtextextended('signet.control/' || $1 || '/' || $2 || '/' || $3, 0))",
    [tenant, framework, control],
  )
  const { rows } = await client.query<Row>(
    'SELECT * FROM signet.control_statements WHERE tenant = $1 AND framework = $2 AND control = $3',
    [tenant, framework, control],
  )
  const [row] = rows
  return row === undefined ? null : asStatement(row)
}

export async function putStatement(
  client: Client,
  tenant: string,
  place: { framework: string; control: string },
  said: Omit<Statement, 'version' | 'updatedAt'>,
): Promise<Statement> {
  const { rows } = await client.query<Row>(
    `INSERT INTO signet.control_statements (tenant, framework, control, status, owner, note, evidence, valid_until, updated_by)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
     ON CONFLICT (tenant, framework, control) DO UPDATE SET status = $4, owner = $5, note = $6, evidence = $7, valid_until = $8, updated_by = $9,
       version = signet.control_statements.version + 1, updated_at = now()
     RETURNING *`,
    [
      tenant,
      place.framework,
      place.control,
      said.status,
      said.owner,
      said.note,
      JSON.stringify(said.evidence),
      said.validUntil,
      said.updatedBy,
    ],
  )
  return asStatement(rows[0] as Row)
}

function asStatement(row: Row): Statement {
  const { status, owner, note, evidence, version } = row
  return {
    status,
    owner,
    note,
    evidence,
    version,
    validUntil: row.valid_until,
    updatedBy: row.updated_by,
    updatedAt: row.updated_at,
  }
}
