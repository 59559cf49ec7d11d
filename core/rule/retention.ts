import Type from 'typebox'
import { celDays, DURATION_PATTERN } from './duration.ts'
import { StatusCondition } from './status.ts'

const closed = { additionalProperties: false } as const
const Duration = (description: string) => Type.String({ pattern: DURATION_PATTERN, maxLength: 6, description })
const names = (description: string, pattern?: string) =>
  Type.Optional(
    Type.Array(Type.String({ minLength: 1, maxLength: 512, ...(pattern === undefined ? {} : { pattern }) }), {
      minItems: 1,
      maxItems: 256,
      uniqueItems: true,
      'x-kubernetes-list-type': 'set',
      description,
    }),
  )

/** What becomes of records that are no longer kept. */
export const PURGE_MODES = ['whenArchived', 'never'] as const

/** `spec` of a RetentionPolicy: how long audit records are kept, by tenant, data domain, region and framework. */
export const RetentionPolicySpec = Type.Object(
  {
    description: Type.Optional(Type.String({ maxLength: 2000, description: 'What the policy is for.' })),
    selector: Type.Optional(
      Type.Object(
        {
          tenants: names('Tenants.'),
          dataDomains: names('Data domains of the records.'),
          regions: names('Regions of the records.'),
          frameworks: names('Frameworks that the record’s stamp names.', '^[A-Z0-9][A-Z0-9_.-]{0,63}$'),
        },
        {
          ...closed,
          description:
            'Records that the policy is for; all, where it is left out. Every member that is given must fit; within one, any of its values. Where several policies fit a record, the longest times win.',
        },
      ),
    ),
    hot: Duration(
      'How long records stay in the database, from when they were written: 90d, 2y (a year counts 366 days).',
    ),
    archive: Duration(
      'How long they are kept in all, from when they were written: hot, then in the archive. Not shorter than hot.',
    ),
    purge: Type.Optional(
      Type.Object(
        {
          mode: Type.Optional(
            Type.Enum(PURGE_MODES, {
              default: 'whenArchived',
              description:
                'whenArchived: after hot, records leave the database once their archive is proven; after archive, the archive expires. never: nothing is removed.',
            }),
          ),
          keepSummary: Type.Optional(
            Type.Boolean({
              default: true,
              description: 'Leave counts by day, event type and outcome. The links of the hash chain always stay.',
            }),
          ),
        },
        { ...closed, description: 'What is removed after hot, and what stays.' },
      ),
    ),
    legalHold: Type.Optional(
      Type.Object(
        {
          active: Type.Boolean({ description: 'While true nothing that the policy selects is purged or erased.' }),
          reason: Type.Optional(
            Type.String({ minLength: 1, maxLength: 2000, description: 'Why; required while active.' }),
          ),
          reference: Type.Optional(Type.String({ minLength: 1, maxLength: 512, description: 'Case or ticket.' })),
        },
        {
          ...closed,
          description: 'Stops purge and erasure. Where any policy that fits a record holds it, it is held.',
          'x-kubernetes-validations': [
            { rule: '!self.active || has(self.reason)', message: 'an active legal hold gives its reason' },
          ],
        },
      ),
    ),
    erasure: Type.Optional(
      Type.Object(
        {
          allowed: Type.Boolean({
            description: 'Whether a person’s key may be destroyed on request, which erases their personal fields.',
          }),
          within: Type.Optional(Duration('How soon after the request: 30d. At most 366 days.')),
        },
        {
          ...closed,
          description: 'Erasure of a person’s data on their request.',
          'x-kubernetes-validations': [
            { rule: 'self.allowed || !has(self.within)', message: 'within needs allowed: true' },
            {
              rule: `!has(self.within) || ${celDays('self.within')} <= 366`,
              message: 'within is at most 366 days',
            },
          ],
        },
      ),
    ),
  },
  {
    ...closed,
    'x-kubernetes-validations': [
      {
        rule: `${celDays('self.hot')} <= ${celDays('self.archive')}`,
        message: 'archive counts from when the record was written, as hot does: it cannot be shorter than hot',
      },
    ],
  },
)
export type RetentionPolicySpec = Type.Static<typeof RetentionPolicySpec>
/** `name`: `metadata.name`. */
export type RetentionObject = { name: string; spec: RetentionPolicySpec }

export const RetentionPolicyStatus = Type.Object({
  observedGeneration: Type.Optional(
    Type.Integer({ minimum: 0, description: 'Generation of the object that this status speaks of.' }),
  ),
  conditions: Type.Optional(
    Type.Array(StatusCondition, {
      maxItems: 16,
      'x-kubernetes-list-type': 'map',
      'x-kubernetes-list-map-keys': ['type'],
      description: 'Accepted: the object is valid.',
    }),
  ),
})
export type RetentionPolicyStatus = Type.Static<typeof RetentionPolicyStatus>
