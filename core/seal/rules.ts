import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { firstFault } from '../error/schema-fault.ts'
import { SignetError } from '../error/signet-error.ts'
import { isEmail } from './wrap.ts'

const Pattern = Type.String({ minLength: 1, maxLength: 256, pattern: '^[^*]*\\*?$' })
const MemberName = Type.String({ minLength: 1, maxLength: 100 })
const Names = Type.Array(MemberName, { maxItems: 1_000 })

/**
 * What a platform sets beside the defaults: which actors are services (readable as they are), and which members of `before`, `after` and
 * `context` are personal (`docs/reference/sealing.md`). A pattern is a text, or a beginning and `*`.
 */
export const PersonalFile = Type.Object(
  {
    version: Type.Literal(1),
    services: Type.Optional(Type.Array(Pattern, { maxItems: 1_000 })),
    /** Their text is a person's name: it becomes that person's `subject:…`. */
    identifiers: Type.Optional(Names),
    /** Their value is sealed under the key of the person that the event is about. */
    personal: Type.Optional(Names),
    /** Never personal by their name, whatever the defaults say; an e-mail address in them is all the same. */
    plain: Type.Optional(Names),
    /** Values of `resource_type` whose `resource_id` is a person's name. */
    resource_types: Type.Optional(Names),
  },
  { additionalProperties: false },
)
export type PersonalFile = Type.Static<typeof PersonalFile>

export type SealRules = {
  /** Whether a text that stands where a name stands (`actor`, an identifier) is a person's. */
  readonly isPerson: (name: string) => boolean
  readonly kindOf: (member: string) => 'identifier' | 'personal' | 'plain'
  /** Whether a `resource_id` is a person's name, by its own form or the type of the resource. */
  readonly isPersonResource: (id: string, type: string | undefined) => boolean
}

const validator = Compile(PersonalFile)

/** Who is not a person, whatever the setting: what Signet itself and Kubernetes call services, and callers that nobody knows. */
export const DEFAULT_SERVICES: readonly string[] = [
  'anonymous',
  'unauthenticated',
  'unknown',
  'guest',
  'system',
  'system:*',
  'signet-*',
  'signet/*',
  'service:*',
  'serviceaccount:*',
  'workload:*',
  'spiffe://*',
  'bot:*',
  'job:*',
]
export const DEFAULT_IDENTIFIERS: readonly string[] = [
  'actor',
  'approved_by',
  'assignee',
  'created_by',
  'customer',
  'data_subject',
  'email',
  'email_address',
  'login',
  'mail',
  'owner',
  'principal',
  'recipient',
  'requester',
  'reviewer',
  'sender',
  'sub',
  'updated_by',
  'user',
  'user_email',
  'user_id',
  'user_name',
  'users',
]
export const DEFAULT_PERSONAL: readonly string[] = [
  'address',
  'bank_account',
  'birth_date',
  'city',
  'client_address',
  'client_ip',
  'customer_name',
  'date_of_birth',
  'device_id',
  'display_name',
  'dob',
  'driving_licence',
  'family_name',
  'fax',
  'first_name',
  'full_name',
  'gender',
  'geolocation',
  'given_name',
  'home_address',
  'iban',
  'ip',
  'ip_address',
  'last_name',
  'latitude',
  'longitude',
  'maiden_name',
  'medical_record_number',
  'middle_name',
  'mobile',
  'national_id',
  'nickname',
  'passport',
  'passport_number',
  'patient_name',
  'phone',
  'phone_number',
  'photo',
  'place_of_birth',
  'postal_address',
  'postal_code',
  'remote_addr',
  'remote_address',
  'remote_ip',
  'salary',
  'social_security_number',
  'ssn',
  'street',
  'surname',
  'tax_id',
  'telephone',
  'user_agent',
  'x_forwarded_for',
  'zip_code',
]
export const DEFAULT_RESOURCE_TYPES: readonly string[] = [
  'account_holder',
  'applicant',
  'contact',
  'customer',
  'employee',
  'individual',
  'patient',
  'person',
  'user',
]
/** Names of members whose kind is remembered: producers use the same ones again and again. */
const MAX_KINDS = 5_000
/** Whoever writes these says that what follows is a person. */
const PERSON_PREFIXES = ['user:', 'person:', 'customer:', 'patient:', 'employee:', 'mailto:']

/**
 * The value of a setting as the file's content. @throws SignetError CONFIG_INVALID naming the place; `source` names the file in messages
 */
export function checkPersonalFile(value: unknown, source: string): PersonalFile {
  if (validator.Check(value)) return value
  const { path, allowed } = firstFault(validator.Errors(value))
  throw new SignetError('CONFIG_INVALID', `${source} at ${path}: ${allowed}`)
}

/** The defaults and what a platform sets besides. */
export function sealRules(file: PersonalFile = { version: 1 }): SealRules {
  const isService = matcher([...DEFAULT_SERVICES, ...(file.services ?? [])])
  const plain = plainNames(file.plain ?? [])
  const identifiers = plainNames([...DEFAULT_IDENTIFIERS, ...(file.identifiers ?? [])])
  const personal = plainNames([...DEFAULT_PERSONAL, ...(file.personal ?? [])])
  for (const name of plainNames(file.identifiers ?? [])) personal.delete(name)
  for (const name of plainNames(file.personal ?? [])) identifiers.delete(name)
  const types = plainNames([...DEFAULT_RESOURCE_TYPES, ...(file.resource_types ?? [])])
  const kinds = new Map<string, ReturnType<SealRules['kindOf']>>()
  const isPerson = (name: string): boolean => name.trim() !== '' && parseSubjectRef(name) === null && !isService(name)
  return {
    isPerson,
    kindOf(member) {
      if (member.length > 100) return 'plain'
      const before = kinds.get(member)
      if (before !== undefined) return before
      const name = plainName(member)
      const kind = plain.has(name)
        ? 'plain'
        : identifiers.has(name)
          ? 'identifier'
          : personal.has(name)
            ? 'personal'
            : 'plain'
      if (kinds.size < MAX_KINDS) kinds.set(member, kind)
      return kind
    },
    isPersonResource: (id, type) =>
      isPerson(id) &&
      (PERSON_PREFIXES.some((prefix) => id.startsWith(prefix)) ||
        isEmail(id) ||
        (type !== undefined && types.has(plainName(type)))),
  }
}

/** In lower case, without what separates words: `userName`, `user_name` and `User-Name` are one. */
function plainName(name: string): string {
  return name.toLowerCase().replaceAll(/[^\p{L}\p{N}]/gu, '')
}

function plainNames(names: readonly string[]): Set<string> {
  return new Set(names.map(plainName))
}

function matcher(patterns: readonly string[]): (text: string) => boolean {
  const whole = new Set(patterns.filter((pattern) => !pattern.endsWith('*')))
  const beginnings = patterns.filter((pattern) => pattern.endsWith('*')).map((pattern) => pattern.slice(0, -1))
  return (text) => whole.has(text) || beginnings.some((beginning) => text.startsWith(beginning))
}

const SUBJECT_REF = /^subject:([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$/

/** What stands in place of a person's name. */
export function subjectRef(subjectId: string): string {
  return `subject:${subjectId}`
}

/** The subject's id, or null for a text that is no such reference. */
export function parseSubjectRef(text: string): string | null {
  return text.length === 44 ? (SUBJECT_REF.exec(text)?.[1] ?? null) : null
}
