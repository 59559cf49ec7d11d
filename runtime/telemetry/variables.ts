import Type from 'typebox'
import { LOG_LEVELS } from './log.ts'

/** Telemetry variables that every process has: spread into its configuration schema. */
export const TELEMETRY_VARIABLES = {
  SIGNET_LOG_LEVEL: Type.Enum(LOG_LEVELS, {
    default: 'info',
    description: 'How much is logged, from least to most.',
  }),
  OTEL_EXPORTER_OTLP_ENDPOINT: Type.Optional(
    Type.String({
      pattern: '^https?://[^\\s/]+(/\\S*)?$',
      allowed: 'an http or https URL, for example http://collector:4318',
      description: 'Where spans go (OTLP over HTTP; `/v1/traces` is added). Not set: no tracing.',
    }),
  ),
}
