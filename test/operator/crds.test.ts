import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GROUP, VERSION } from '#core/rule/model.ts'
import {
  BAD_RETENTION,
  BAD_RULES,
  SMALL_RULE,
  UNFIT_RULES,
  WHOLE_RETENTION,
  WHOLE_RULE,
} from '#core/rule/rule.fixture.ts'
import { startApiServer, type TestApiServer } from '#test/support/api-server.ts'

let server: TestApiServer
beforeAll(async () => {
  server = await startApiServer({ crds: true })
}, 900_000)
afterAll(() => server?.stop())

const BASE = `/apis/${GROUP}/${VERSION}/namespaces/default`

/** Creates an object with strict field validation, as kubectl does; gives the status code and what the server says. */
async function create(
  kind: 'ComplianceRule' | 'RetentionPolicy',
  name: string,
  spec: unknown,
  dryRun = true,
): Promise<{ status: number; message: string; object: Record<string, unknown> }> {
  const plural = kind === 'ComplianceRule' ? 'compliancerules' : 'retentionpolicies'
  const query = `?fieldValidation=Strict${dryRun ? '&dryRun=All' : ''}`
  const body = { apiVersion: `${GROUP}/${VERSION}`, kind, metadata: { name }, spec }
  const response = await server.request('POST', `${BASE}/${plural}${query}`, body)
  const object = JSON.parse(response.body.toString()) as Record<string, unknown>
  return { status: response.status, message: (object['message'] as string | undefined) ?? '', object }
}

describe('the CRDs on a real API server', () => {
  it('are established, structural, and in the category signet', async () => {
    for (const [name, shortName] of [
      [`compliancerules.${GROUP}`, 'crule'],
      [`retentionpolicies.${GROUP}`, 'rpol'],
    ] as const) {
      const crd = JSON.parse(await server.kubectl(['get', 'crd', name, '-o', 'json'])) as {
        status: { conditions: { type: string; status: string }[]; acceptedNames: { shortNames: string[] } }
      }
      const conditions = Object.fromEntries(crd.status.conditions.map(({ type, status }) => [type, status]))
      expect(conditions).toMatchObject({ Established: 'True', NamesAccepted: 'True' })
      expect(conditions['NonStructuralSchema'] ?? 'False').toBe('False')
      expect(crd.status.acceptedNames.shortNames).toEqual([shortName])
      await server.kubectl(['get', shortName])
    }
    await server.kubectl(['get', 'signet'])
  })

  it('take rules as they should be, and fill in what is left out', async () => {
    const { conditions: _, ...rest } = SMALL_RULE
    for (const [name, spec] of [
      ['whole', WHOLE_RULE],
      ['small', SMALL_RULE],
      ['rego', { ...rest, rego: 'package x\n\ndecision := {"evaluated": true, "violations": []}\n' }],
      ['a'.repeat(63), SMALL_RULE],
    ] as const) {
      expect(await create('ComplianceRule', name, spec)).toMatchObject({ status: 201, message: '' })
    }
    const { object } = await create('ComplianceRule', 'small', { ...SMALL_RULE, enforcement: {}, undecidable: {} })
    expect(object['spec']).toEqual({
      ...SMALL_RULE,
      stage: 'egress',
      enforcement: { mode: 'enforce' },
      undecidable: { external: 'closed', internal: 'open' },
    })
  })

  it('take retention policies as they should be', async () => {
    expect(await create('RetentionPolicy', 'whole', WHOLE_RETENTION)).toMatchObject({ status: 201, message: '' })
    expect(await create('RetentionPolicy', 'year', { hot: '366d', archive: '1y' })).toMatchObject({ status: 201 })
  })

  it.each(BAD_RULES)('refuse a rule with $name', async ({ as, spec, wantServer }) => {
    const { status, message } = await create('ComplianceRule', as ?? 'bad', spec)
    expect([400, 422]).toContain(status)
    expect(message).toMatch(wantServer)
  })

  it.each(BAD_RETENTION)('refuse a retention policy with $name', async ({ spec, wantServer }) => {
    const { status, message } = await create('RetentionPolicy', 'bad', spec)
    expect([400, 422]).toContain(status)
    expect(message).toMatch(wantServer)
  })

  it('refuse a misspelt member', async () => {
    const { status, message } = await create('ComplianceRule', 'bad', { ...SMALL_RULE, enforcment: {} })
    expect([status, message]).toEqual([400, expect.stringContaining('unknown field "spec.enforcment"')])
  })

  it('leave facts and values to the webhook', async () => {
    const [unfit] = UNFIT_RULES
    expect(await create('ComplianceRule', 'unfit', unfit!.spec)).toMatchObject({ status: 201 })
  })

  it('have a status of their own, and columns that show it', async () => {
    await create('ComplianceRule', 'shown', WHOLE_RULE, false)
    const condition = (type: string) => ({
      type,
      status: 'True',
      reason: 'Fine',
      message: '',
      lastTransitionTime: '2026-11-23T09:30:00Z',
    })
    const status = {
      observedGeneration: 1,
      conditions: ['Accepted', 'Compiled', 'Distributed'].map(condition),
      errors: [],
      revision: '12-0123456789abcdef',
      distribution: { expected: 3, current: 2 },
    }
    const patch = JSON.stringify({ status, spec: { severity: 'low' } })
    await server.kubectl(['patch', 'crule', 'shown', '--subresource=status', '--type=merge', '-p', patch])
    const shown = await server.kubectl(['get', 'crule', 'shown', '-o', 'wide'])
    expect(shown).toMatch(/SEVERITY +STAGE +MODE +ACCEPTED +COMPILED +DISTRIBUTED +PROXIES +REVISION +DESCRIPTION +AGE/)
    expect(shown).toMatch(/shown +high +egress +enforce +True +True +True +2 +12-0123456789abcdef/)
  })
})
