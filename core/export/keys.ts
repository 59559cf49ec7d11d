import Type from 'typebox'
import { AckKey, WorkloadCa } from '../keyring/schema.ts'

/** `keys.json` of an export: the public keys of the ledger, without which nothing in it could be checked later. */
export const ExportKeys = Type.Object(
  {
    version: Type.Literal(1),
    /** `NAME+KEYID+BASE64` (c2sp.org/signed-note): who signs the checkpoint. */
    log_verifiers: Type.Array(Type.String({ maxLength: 1_024 }), { maxItems: 10_000 }),
    ack_keys: Type.Array(Type.Omit(AckKey, ['private_key'], { additionalProperties: false }), { maxItems: 10_000 }),
    workload_cas: Type.Array(Type.Omit(WorkloadCa, ['private_key'], { additionalProperties: false }), {
      maxItems: 10_000,
    }),
  },
  { additionalProperties: false },
)
export type ExportKeys = Type.Static<typeof ExportKeys>
