import Type from 'typebox'

export const EVIDENCE_VARIABLES = {
  SIGNET_EVIDENCE_ARTIFACT_BUCKET: Type.String({
    default: 'signet-governance-evidence',
    pattern: '^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$',
    allowed: 'the name of a bucket',
    description:
      'Bucket that files of evidence are kept in (docs/evidence.md). Credentials come as the AWS SDK finds them (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, a profile, a web identity).',
  }),
  SIGNET_EVIDENCE_ENDPOINT: Type.Optional(
    Type.String({
      pattern: '^https?://[^\\s/]+/?$',
      allowed: 'an http or https URL without a path',
      description: "The store's address, where it is not Amazon's.",
    }),
  ),
  SIGNET_EVIDENCE_REGION: Type.String({
    default: 'us-east-1',
    pattern: '^[a-z0-9-]{1,64}$',
    allowed: 'the name of a region',
    description: 'Region of the bucket.',
  }),
  SIGNET_EVIDENCE_PREFIX: Type.String({
    default: '',
    pattern: '^([A-Za-z0-9._-]{1,100}/){0,8}$',
    allowed: 'a path that ends with a slash, or nothing',
    description: 'What comes before every key in the bucket.',
  }),
  SIGNET_EVIDENCE_MAX_BYTES: Type.Integer({
    default: 10 * 1024 * 1024,
    minimum: 1_024,
    maximum: 100 * 1024 * 1024,
    description: 'Size of one file of evidence at most; it is held in memory while it is checked.',
  }),
  SIGNET_EVIDENCE_STORE_TIMEOUT_MS: Type.Integer({
    default: 15_000,
    minimum: 100,
    maximum: 60_000,
    description: 'How long the store may take for one file; then the call is answered with 503.',
  }),
}
