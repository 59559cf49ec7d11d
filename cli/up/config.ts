import Type from 'typebox'
import type { Static } from 'typebox'

const Port = (standard: number, description: string) =>
  Type.Integer({ default: standard, minimum: 0, maximum: 65_535, description: `${description} 0: any free port.` })

/** Variables of `signet up` itself; those of the proxy, the ledger and governance are passed on to them. */
export const UP_CONFIG = Type.Object({
  SIGNET_UPSTREAM: Type.Optional(
    Type.String({
      pattern: '^https?://[^\\s/?#]+/?$',
      allowed: 'an http or https URL without a path, for example http://127.0.0.1:3000',
      description: 'The service to put the proxy in front of, in place of the demo service.',
    }),
  ),
  SIGNET_TENANT: Type.String({
    default: 'demo',
    minLength: 1,
    maxLength: 512,
    description: 'Tenant of stamps and audit events.',
  }),
  SIGNET_PRODUCER_ID: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 512,
      description: 'Producer id in stamps. Not set: `demo/service`, or `local/service` with an upstream of your own.',
    }),
  ),
  SIGNET_STATE_DIR: Type.Optional(
    Type.String({
      minLength: 1,
      description: 'Folder of keys, tokens, data and logs. Not set: `.signet` in the checkout.',
    }),
  ),
  SIGNET_HOST: Type.String({
    default: '127.0.0.1',
    pattern: '^[^\\s:/]+$',
    allowed: 'a host name or IPv4 address',
    description: 'Address that proxy, ledger, governance and demo service listen on.',
  }),
  SIGNET_EXTERNAL_PORT: Port(8080, 'Proxy, external channel.'),
  SIGNET_INTERNAL_PORT: Port(8085, 'Proxy, internal channel.'),
  SIGNET_ADMIN_PORT: Port(9464, 'Proxy, metrics and health.'),
  SIGNET_LEDGER_PORT: Port(8090, 'Ledger.'),
  SIGNET_GOVERNANCE_PORT: Port(8000, 'Governance.'),
  SIGNET_DEMO_PORT: Port(8081, 'Demo service.'),
})
export type UpConfig = Static<typeof UP_CONFIG>
