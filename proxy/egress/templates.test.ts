import { describe, expect, it } from 'vitest'
import type { Judgement } from '#core/policy/join.ts'
import { CLAIMS, KEYS } from '#core/stamp/stamp.fixture.ts'
import type { ExchangeContext } from '../exchange/context.ts'
import type { Answer } from './gather.ts'
import { AnswerTemplates } from './templates.ts'

const KEY = KEYS.stampKey('reports-2026')!
const CONTEXT = {
  requestId: '0193a1b2-0000-7000-8000-000000000001',
  traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
  channel: 'external',
  tenant: 'acme',
  mode: 'enforce',
  policy: { revision: 'r1' },
  method: 'GET',
  targetDigest: `sha256:${'a'.repeat(64)}`,
  path: '/reports/7',
  caller: { subject: 'alice', roles: [], region: null },
} as unknown as ExchangeContext
const ANSWER = { status: 200, mediaType: 'application/json' } as Answer
const JUDGEMENT = {
  violations: [],
  shadow: [],
  undecidable: [],
  classification: 'internal',
  regulations: ['NONE'],
  approvalStatus: 'approved',
} as unknown as Judgement
const SIGNING = { canonicalization: 'bytes', key: KEY } as const

function found(
  templates: AnswerTemplates,
  change: Partial<Record<'context' | 'answer' | 'judgement' | 'signing', object>>,
) {
  return templates.find(
    { ...CONTEXT, ...change.context },
    { ...ANSWER, ...change.answer },
    { ...JUDGEMENT, ...change.judgement },
    { ...SIGNING, ...change.signing },
    () => CLAIMS,
  )
}

describe('one template is used again', () => {
  const cases: { name: string; change: Parameters<typeof found>[1]; wantSame: boolean }[] = [
    { name: 'for another request', change: { context: { requestId: 'x', path: '/other' } }, wantSame: true },
    { name: 'for an equal judgement', change: { judgement: { regulations: ['NONE'] } }, wantSame: true },
    { name: 'but not for another status', change: { answer: { status: 404 } }, wantSame: false },
    { name: 'but not for another media type', change: { answer: { mediaType: 'text/csv' } }, wantSame: false },
    { name: 'but not for another channel', change: { context: { channel: 'internal' } }, wantSame: false },
    { name: 'but not for another tenant', change: { context: { tenant: 'globex' } }, wantSame: false },
    { name: 'but not for another method', change: { context: { method: 'POST' } }, wantSame: false },
    { name: 'but not for another mode', change: { context: { mode: 'shadow' } }, wantSame: false },
    { name: 'but not for another caller', change: { context: { caller: { subject: 'bob' } } }, wantSame: false },
    { name: 'but not for another revision', change: { context: { policy: { revision: 'r2' } } }, wantSame: false },
    {
      name: 'but not for another classification',
      change: { judgement: { classification: 'public' } },
      wantSame: false,
    },
    { name: 'but not for other regulations', change: { judgement: { regulations: ['SOX'] } }, wantSame: false },
    { name: 'but not for another approval', change: { judgement: { approvalStatus: 'draft' } }, wantSame: false },
    { name: 'but not for another canonicalization', change: { signing: { canonicalization: 'jcs' } }, wantSame: false },
    { name: 'but not for another key', change: { signing: { key: { ...KEY } } }, wantSame: false },
  ]
  it.each(cases)('$name', ({ change, wantSame }) => {
    const templates = new AnswerTemplates()
    const first = found(templates, {})
    expect(first).not.toBeNull()
    const other = found(templates, change)
    expect(other === first).toBe(wantSame)
    expect(other).not.toBeNull()
  })
})

it.each(['violations', 'shadow', 'undecidable'])('there is none for what has %s: its event names them', (member) => {
  expect(found(new AnswerTemplates(), { judgement: { [member]: [{ rule: 'r' }] } })).toBeNull()
})
