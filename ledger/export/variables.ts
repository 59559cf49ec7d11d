import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'

/** Variables about exports: spread into the ledger's configuration. */
export const EXPORT_VARIABLES = {
  SIGNET_LEDGER_TSA_URL: Type.Optional(
    Type.String({
      pattern: '^https?://[^\\s]+$',
      allowed: 'an http or https URL',
      description:
        'Time-stamp authority (RFC 3161) whose token each export gets. None where unset; where set, an export without one fails.',
    }),
  ),
  SIGNET_LEDGER_SMTP_URL: Type.Optional(
    Type.String({
      pattern: '^smtps?://[^\\s]+$',
      allowed: 'smtp://USER:PASSWORD@HOST:PORT or smtps://…',
      secret: true,
      description: 'Mail server for letters that an export is finished. No letters where unset.',
    }),
  ),
  SIGNET_LEDGER_MAIL_FROM: Type.Optional(
    Type.String({
      pattern: '^[^\\s@<>]+@[^\\s@<>]+$',
      allowed: 'an e-mail address',
      description: 'Whom these letters are from.',
    }),
  ),
  SIGNET_LEDGER_MAIL_DOMAINS: Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9.-]+(,[A-Za-z0-9.-]+)*$',
      allowed: 'domains, separated by commas',
      description: 'Domains that letters may go to.',
    }),
  ),
  SIGNET_LEDGER_PUBLIC_URL: Type.Optional(
    Type.String({
      pattern: '^https?://[^\\s?#]+$',
      allowed: 'an http or https URL',
      description: 'Where people reach the ledger: the links in letters.',
    }),
  ),
}
type Values = { readonly [Name in keyof typeof EXPORT_VARIABLES]?: string }

export type MailSettings = {
  readonly url: string
  readonly from: string
  readonly domains: readonly string[]
  readonly publicUrl: string
}

/** Null where no letters are sent. @throws SignetError CONFIG_INVALID where some of the variables are set and others are not */
export function mailSettings(values: Values): MailSettings | null {
  const {
    SIGNET_LEDGER_SMTP_URL: url,
    SIGNET_LEDGER_MAIL_FROM: from,
    SIGNET_LEDGER_MAIL_DOMAINS: domains,
    SIGNET_LEDGER_PUBLIC_URL: publicUrl,
  } = values
  if (url === undefined) return null
  if (from === undefined || domains === undefined || publicUrl === undefined)
    throw new SignetError(
      'CONFIG_INVALID',
      'with SIGNET_LEDGER_SMTP_URL go SIGNET_LEDGER_MAIL_FROM, SIGNET_LEDGER_MAIL_DOMAINS and SIGNET_LEDGER_PUBLIC_URL',
    )
  return { url, from, domains: domains.toLowerCase().split(','), publicUrl: publicUrl.replace(/\/+$/, '') }
}
