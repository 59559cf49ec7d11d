/** Where governance is, and who asks: a supervisor, whose token may write supervision records (`write:violations`) and events. */
export type Supervisor = {
  /** Origin of governance. */
  readonly url: string
  readonly token: () => string | Promise<string>
  /** Default 5,000 ms, of each call. */
  readonly timeoutMs?: number
}

export type AgentAction = {
  /** `maos`: an agent of a supervisor of several; `deep_agent`: one that plans. */
  readonly source: 'maos' | 'deep_agent'
  readonly agentId: string
  readonly action: string
  readonly approvedBy: string
  /** How long the agent has; 1 second to a day. */
  readonly validForMs: number
}

export type Supervised<T> = {
  readonly result: T
  readonly supervisionId: string
  /** What governance found in it; empty where it was as it was approved. */
  readonly violations: readonly { readonly id: string; readonly rule: string; readonly summary: string }[]
}

/** Governance did not take the record or the event: nothing was done, or nothing is known of it. */
export class SupervisionError extends Error {
  readonly status: number | null
  constructor(message: string, status: number | null, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'SupervisionError'
    this.status = status
  }
}

const DAY_MS = 86_400_000

/**
 * Lets an agent act under supervision: the record is there before it acts, and what it did is reported whether it succeeded or not
 * (docs/violations.md). What `act` throws is thrown again, after the report.
 * @throws SupervisionError the record was not taken (the agent has not acted), or the report was not; RangeError for a bad `validForMs`
 */
export async function superviseAction<T>(
  supervisor: Supervisor,
  { source, agentId, action, approvedBy, validForMs }: AgentAction,
  act: (supervisionId: string) => Promise<T>,
): Promise<Supervised<T>> {
  if (!(validForMs >= 1_000 && validForMs <= DAY_MS)) throw new RangeError('validForMs is 1,000 to 86,400,000')
  const supervisionId = crypto.randomUUID()
  const record = {
    agent_id: agentId,
    action,
    approved_by: approvedBy,
    valid_until: new Date(Date.now() + validForMs).toISOString(),
  }
  await call(supervisor, 'PUT', `/api/compliance/reference/supervision/${supervisionId}`, record)
  const report = async (succeeded: boolean): Promise<Supervised<T>['violations']> => {
    const details = { agent_id: agentId, action, supervision_id: supervisionId, succeeded }
    const answer = await call(supervisor, 'POST', '/api/compliance/event', {
      source,
      eventType: 'agent_action',
      details,
    })
    return (answer as { violations: Supervised<T>['violations'] }).violations
  }
  let result: T
  try {
    result = await act(supervisionId)
  } catch (error) {
    await report(false)
    throw error
  }
  return { result, supervisionId, violations: await report(true) }
}

async function call(
  { url, token, timeoutMs = 5_000 }: Supervisor,
  method: string,
  path: string,
  body: object,
): Promise<unknown> {
  let response: Response
  try {
    response = await fetch(new URL(path, url), {
      method,
      headers: { authorization: `Bearer ${await token()}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
      redirect: 'error',
      signal: AbortSignal.timeout(timeoutMs),
    })
  } catch (cause) {
    throw new SupervisionError('governance does not answer', null, cause)
  }
  const text = await response.text()
  if (!response.ok)
    throw new SupervisionError(`governance answered ${response.status}: ${detailOf(text)}`, response.status)
  return JSON.parse(text) as unknown
}

/** RFC 9457. */
function detailOf(text: string): string {
  try {
    const { detail } = JSON.parse(text) as { detail?: unknown }
    return typeof detail === 'string' ? detail : 'no reason'
  } catch {
    return 'no reason'
  }
}
