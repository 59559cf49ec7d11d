import Type from 'typebox'

export const ARCHIVE_VARIABLES = {
  SIGNET_ARCHIVE_BUCKET: Type.Optional(
    Type.String({
      pattern: '^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$',
      allowed: 'the name of a bucket',
      description:
        'Bucket with object lock that snapshots and checkpoints are archived to (docs/archive.md). Nothing is archived where unset. Credentials come as the AWS SDK finds them (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, a profile, a web identity).',
    }),
  ),
  SIGNET_ARCHIVE_ENDPOINT: Type.Optional(
    Type.String({
      pattern: '^https?://[^\\s/]+/?$',
      allowed: 'an http or https URL without a path',
      description: "The store's address, where it is not Amazon's.",
    }),
  ),
  SIGNET_ARCHIVE_REGION: Type.String({
    default: 'us-east-1',
    pattern: '^[a-z0-9-]{1,64}$',
    allowed: 'the name of a region',
    description: 'Region of the bucket.',
  }),
  SIGNET_ARCHIVE_PREFIX: Type.String({
    default: '',
    pattern: '^([A-Za-z0-9._-]{1,100}/){0,8}$',
    allowed: 'a path that ends with a slash, or nothing',
    description: 'What comes before every key in the bucket; each ledger installation needs one of its own.',
  }),
  SIGNET_ARCHIVE_RETAIN_DAYS: Type.Integer({
    default: 2_557,
    minimum: 1,
    maximum: 36_500,
    description:
      'Days for which what is archived cannot be deleted by anybody (compliance mode); longer where the retention class of the records is.',
  }),
  SIGNET_ARCHIVE_EVERY_MINUTES: Type.Integer({
    default: 1_440,
    minimum: 0,
    maximum: 10_080,
    description:
      'Minutes between two snapshots, in one ledger process at a time; 0: this one makes them on demand only.',
  }),
}
