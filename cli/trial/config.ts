import Type from 'typebox'
import { TELEMETRY_VARIABLES } from '#runtime/telemetry/variables.ts'

/** The trial database in a cluster: one server for one of the ledger's two stores. */
export const TRIAL_CONFIG = Type.Object({
  SIGNET_TRIAL_STORE: Type.Enum(['wall', 'work'], { description: 'The store that it holds.' }),
  SIGNET_TRIAL_DATA_DIR: Type.String({ minLength: 1, description: 'Folder of its data and passwords.' }),
  SIGNET_TRIAL_PORT: Type.Integer({
    default: 5432,
    minimum: 1,
    maximum: 65_535,
    description: 'Port that it listens on, on all addresses.',
  }),
  SIGNET_TRIAL_HOST: Type.String({
    minLength: 1,
    maxLength: 253,
    description: 'Host name that clients reach it by: what the connection strings say.',
  }),
  SIGNET_TRIAL_SECRET: Type.String({
    pattern: '^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$',
    allowed: 'the name of a Secret',
    description: 'Secret of its own namespace that it keeps the connection strings in: `url` and `owner-url`.',
  }),
  KUBERNETES_SERVICE_HOST: Type.String({
    minLength: 1,
    description: 'The API server; Kubernetes sets it in every pod.',
  }),
  KUBERNETES_SERVICE_PORT: Type.Integer({
    default: 443,
    minimum: 1,
    maximum: 65_535,
    description: 'Port of the API server; Kubernetes sets it in every pod.',
  }),
  SIGNET_LOG_LEVEL: TELEMETRY_VARIABLES.SIGNET_LOG_LEVEL,
})
