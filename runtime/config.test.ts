import Type from 'typebox'
import { describe, expect, expectTypeOf, it } from 'vitest'
import { SignetError } from '#core/error/signet-error.ts'
import { describeConfig, readConfig, unknownVariables } from './config.ts'

const SCHEMA = Type.Object({
  SIGNET_NAME: Type.String({ minLength: 1, maxLength: 8, description: 'A name.' }),
  SIGNET_POOL_SIZE: Type.Integer({ default: 5, minimum: 1, maximum: 100 }),
  SIGNET_RATIO: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
  SIGNET_STRICT: Type.Boolean({ default: false }),
  SIGNET_MODE: Type.Enum(['off', 'shadow', 'enforce'], { default: 'enforce' }),
  SIGNET_KEY: Type.Optional(Type.String({ secret: true, pattern: '^k-', allowed: 'a key that starts with k-' })),
})

function problemsOf(env: Record<string, string>): string[] {
  try {
    readConfig(SCHEMA, env)
  } catch (error) {
    expect(error).toBeInstanceOf(SignetError)
    expect((error as SignetError).code).toBe('CONFIG_INVALID')
    return (error as SignetError).message.split('\n')
  }
  return []
}

describe('readConfig', () => {
  it('fills in defaults and gives values their types', () => {
    const config = readConfig(SCHEMA, { SIGNET_NAME: 'a', PATH: '/bin' })
    expect(config).toEqual({ SIGNET_NAME: 'a', SIGNET_POOL_SIZE: 5, SIGNET_STRICT: false, SIGNET_MODE: 'enforce' })
    expectTypeOf(config.SIGNET_POOL_SIZE).toEqualTypeOf<number>()
    expectTypeOf(config.SIGNET_MODE).toEqualTypeOf<'off' | 'shadow' | 'enforce'>()
    expectTypeOf(config.SIGNET_RATIO).toEqualTypeOf<number | undefined>()
  })

  it('parses what is set', () => {
    const env = {
      SIGNET_NAME: 'b',
      SIGNET_POOL_SIZE: '7',
      SIGNET_RATIO: '0.25',
      SIGNET_STRICT: 'true',
      SIGNET_MODE: 'off',
    }
    expect(readConfig(SCHEMA, { ...env, SIGNET_KEY: 'k-1' })).toEqual({
      SIGNET_NAME: 'b',
      SIGNET_POOL_SIZE: 7,
      SIGNET_RATIO: 0.25,
      SIGNET_STRICT: true,
      SIGNET_MODE: 'off',
      SIGNET_KEY: 'k-1',
    })
  })

  const NAMED = { SIGNET_NAME: 'a' }
  const cases: { name: string; env: Record<string, string>; want: string[] }[] = [
    { name: 'missing', env: {}, want: ['SIGNET_NAME is not set; it must be text of 1 to 8 characters'] },
    {
      name: 'empty counts as missing',
      env: { SIGNET_NAME: '' },
      want: ['SIGNET_NAME is not set; it must be text of 1 to 8 characters'],
    },
    {
      name: 'not a number',
      env: { ...NAMED, SIGNET_POOL_SIZE: 'many' },
      want: ['SIGNET_POOL_SIZE is "many"; it must be an integer from 1 to 100'],
    },
    {
      name: 'out of range',
      env: { ...NAMED, SIGNET_POOL_SIZE: '0' },
      want: ['SIGNET_POOL_SIZE is "0"; it must be an integer from 1 to 100'],
    },
    {
      name: 'a fraction is no integer',
      env: { ...NAMED, SIGNET_POOL_SIZE: '1.5' },
      want: ['SIGNET_POOL_SIZE is "1.5"; it must be an integer from 1 to 100'],
    },
    {
      name: 'hexadecimal is no integer',
      env: { ...NAMED, SIGNET_POOL_SIZE: '0x10' },
      want: ['SIGNET_POOL_SIZE is "0x10"; it must be an integer from 1 to 100'],
    },
    {
      name: 'blank around is not trimmed',
      env: { ...NAMED, SIGNET_POOL_SIZE: ' 7' },
      want: ['SIGNET_POOL_SIZE is " 7"; it must be an integer from 1 to 100'],
    },
    {
      name: 'infinity',
      env: { ...NAMED, SIGNET_RATIO: 'Infinity' },
      want: ['SIGNET_RATIO is "Infinity"; it must be a number from 0 to 1'],
    },
    {
      name: 'boolean',
      env: { ...NAMED, SIGNET_STRICT: 'yes' },
      want: ['SIGNET_STRICT is "yes"; it must be true or false'],
    },
    {
      name: 'enum',
      env: { ...NAMED, SIGNET_MODE: 'on' },
      want: ['SIGNET_MODE is "on"; it must be one of off, shadow, enforce'],
    },
    {
      name: 'a secret is not shown',
      env: { ...NAMED, SIGNET_KEY: 'hunter2' },
      want: ['SIGNET_KEY is not valid (a secret, not shown); it must be a key that starts with k-'],
    },
    {
      name: 'all problems at once',
      env: { SIGNET_POOL_SIZE: '-1', SIGNET_MODE: '' },
      want: [
        'SIGNET_NAME is not set; it must be text of 1 to 8 characters',
        'SIGNET_POOL_SIZE is "-1"; it must be an integer from 1 to 100',
      ],
    },
  ]
  it.each(cases)('refuses: $name', ({ env, want }) => {
    expect(problemsOf(env)).toEqual(want)
  })

  it('cuts a long value and keeps line breaks out of the message', () => {
    const [problem, ...more] = problemsOf({ SIGNET_NAME: `\n${'x'.repeat(5_000)}` })
    expect(more).toEqual([])
    expect(problem?.length).toBeLessThan(200)
  })
})

describe('unknownVariables', () => {
  it('lists SIGNET_ variables that no schema knows, and no Kubernetes service links', () => {
    const env = {
      SIGNET_NAME: 'a',
      SIGNET_NAEM: 'b',
      OTHER: 'c',
      SIGNET_LEDGER_PORT: 'tcp://10.0.0.1:8090',
      SIGNET_LEDGER_SERVICE_HOST: '10.0.0.1',
      SIGNET_LEDGER_SERVICE_PORT_HTTP: '8090',
      SIGNET_LEDGER_PORT_8090_TCP_ADDR: '10.0.0.1',
    }
    expect(unknownVariables([SCHEMA], env)).toEqual(['SIGNET_NAEM'])
  })
})

describe('describeConfig', () => {
  it('says name, need, form and default of each', () => {
    const [name, pool] = describeConfig(SCHEMA)
    expect(name).toEqual({
      name: 'SIGNET_NAME',
      required: true,
      secret: false,
      allowed: 'text of 1 to 8 characters',
      defaultValue: null,
      description: 'A name.',
    })
    expect(pool).toMatchObject({ required: false, defaultValue: '5', allowed: 'an integer from 1 to 100' })
  })
})
