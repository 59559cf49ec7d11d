import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { createTokenAuthenticator, parseTokenFile, requireScope } from './token.ts'

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')
const FILE = {
  version: 1 as const,
  tokens: [
    { sha256: sha256('secret-1'), name: 'proxy', tenant: 'acme', producer_id: 'reports/api', scopes: ['audit:write'] },
    { sha256: sha256('secret-2'), name: 'auditor', tenant: 'acme', scopes: ['audit:read'] },
  ],
}

describe('createTokenAuthenticator', () => {
  const { authenticate } = createTokenAuthenticator(FILE)

  it.each([
    ['Bearer secret-1', 'proxy', 'reports/api'],
    ['bearer  secret-2', 'auditor', null],
  ])('%s', async (authorization, name, producerId) => {
    expect(await authenticate({ authorization })).toMatchObject({ name, tenant: 'acme', producerId, workload: null })
  })

  it.each([
    undefined,
    '',
    'Bearer',
    'Bearer ',
    'Basic secret-1',
    'secret-1',
    'Bearer secret-3',
    'Bearer secret-1 x',
    `Bearer ${'x'.repeat(9_000)}`,
    `Bearer ${sha256('secret-1')}`,
  ])('refuses %s', async (authorization) => {
    const error = await authenticate({ authorization }).catch((caught: unknown) => caught)
    expect(error).toMatchObject({ code: 'UNAUTHENTICATED' })
    expect((error as Error).message).not.toContain('secret-')
  })

  const several = createTokenAuthenticator({
    version: 1,
    tokens: [
      { ...FILE.tokens[0]!, tenants: ['globex'] },
      { ...FILE.tokens[1]!, tenants: '*' },
      { sha256: sha256('secret-3'), name: 'one', tenant: 'acme', scopes: [] },
    ],
  })
  it.each([
    { token: 'secret-1', tenant: undefined, want: 'acme' },
    { token: 'secret-1', tenant: 'acme', want: 'acme' },
    { token: 'secret-1', tenant: 'globex', want: 'globex' },
    { token: 'secret-1', tenant: 'initech', want: 'FORBIDDEN' },
    { token: 'secret-2', tenant: 'initech', want: 'initech' },
    { token: 'secret-2', tenant: 'a b', want: 'REQUEST_INVALID' },
    { token: 'secret-3', tenant: 'globex', want: 'acme' },
  ])('$token that names $tenant: $want', async ({ token, tenant, want }) => {
    const credentials = { authorization: `Bearer ${token}`, claims: { tenant } }
    const got = await several.authenticate(credentials).then(
      (identity) => identity.tenant,
      (error: { code: string }) => error.code,
    )
    expect(got).toBe(want)
  })

  it('names the missing scope', async () => {
    const identity = await authenticate({ authorization: 'Bearer secret-2' })
    expect(() => requireScope(identity, 'audit:read')).not.toThrow()
    expect(() => requireScope(identity, 'audit:write')).toThrow(
      expect.objectContaining({
        code: 'FORBIDDEN',
        message: 'auditor may not do this: its token lacks the scope audit:write',
      }),
    )
  })
})

describe('parseTokenFile', () => {
  it('reads its own format', () => {
    expect(parseTokenFile(JSON.stringify(FILE), 'tokens.json')).toEqual(FILE)
  })

  it.each([
    ['no JSON', '{"hunter2'],
    ['another version', '{"version":2,"tokens":[]}'],
    ['a token in clear', '{"version":1,"tokens":[{"token":"hunter2","name":"a","tenant":"b","scopes":[]}]}'],
    ['no hex', '{"version":1,"tokens":[{"sha256":"hunter2","name":"a","tenant":"b","scopes":[]}]}'],
    ['twice the same', JSON.stringify({ version: 1, tokens: [FILE.tokens[0], FILE.tokens[0]] })],
  ])('refuses %s and quotes nothing of it', (_name, text) => {
    expect(() => parseTokenFile(text, 'tokens.json')).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }))
    expect(() => parseTokenFile(text, 'tokens.json')).toThrow(/^(?!.*hunter2)tokens\.json is not/)
  })
})
