import { recordsFile, type ExportManifest } from '#core/export/manifest.ts'

/** `README.txt` of a package: how to check it without us. */
export function readmeOf(manifest: Omit<ExportManifest, 'files' | 'signature'>): string {
  const { tenant, export_id, made_at, records, format, raw, checkpoint, key_id, scrubbing } = manifest
  const file = recordsFile(format)
  return `Audit records of ${tenant}: export ${export_id} of ${made_at}, ${records} records.

WHAT IS IN HERE
  ${file.padEnd(15)} the records, in the order of the chain
  proofs.ndjson   for each of them, in the same order, the proof that it is in the log
  checkpoint      the log's signed statement about all that is in it (${checkpoint.size} entries)
  keys.json       public keys that the signatures verify with
  manifest.json   what was asked for, how many records, the digest of each file, what was scrubbed; signed

THE SHORT WAY
  signet verify THIS_FILE.tar.gz --log-key KEY
KEY is the log's verifier key. Get it from somewhere that is not this package: from the log itself (GET /log/keys), from a
colleague, from an earlier export. Without it, a package can be checked against nothing but the keys that it brings along.
No network is needed.

WITHOUT OUR PROGRAM
All hashes are SHA-256. Hexadecimal digits stand for bytes; "+" joins bytes.
1. Files. The digest and length of each file in manifest.json, "files", is that of the file.
2. Manifest. Take the member "signature" away and write the rest as RFC 8785 says (no blanks, names sorted). The Ed25519 signature,
   base64url, is over these bytes: for each of the three texts "SignetV1", "application/vnd.signet.export-manifest.v1+json" and
   the JSON text, its length in bytes as 8 bytes, most significant first, and the text. The key is "${key_id}" of keys.json:
   "public_key", SubjectPublicKeyInfo in DER, base64url. (openssl pkeyutl -verify -rawin -pubin -keyform DER …)
3. Records. ${
    format === 'csv'
      ? 'The column "record" is the text of the record, the columns before it repeat what it says. A cell that a\n   spreadsheet would take for a formula begins with an apostrophe that is not part of it. Spreadsheets cut cells off after\n   32,767 characters: check the file, not the sheet.'
      : 'Each line has the text of the record between "record": and the last ,"scrubbed":.'
  }
   commitment = SHA-256(nonce + text), where the nonce is not null.
4. Proofs. leaf = SHA-256(byte 0 + commitment + link_hash). Go up through inclusion_path with SHA-256(byte 1 + left + right), as
   RFC 9162, section 2.1.3.2 says, with leaf_index and the size in the second line of the checkpoint. What comes out is the
   root in its third line, base64.
5. Checkpoint. A signed note as c2sp.org/signed-note and c2sp.org/tlog-checkpoint say; the verifier is in keys.json, "log_verifiers".

WHAT WAS SCRUBBED
${
  raw
    ? 'Nothing: these are the exact bytes. They may hold passwords, keys and personal data. Treat them so.'
    : `Passwords, keys, tokens and card numbers, by the names of fields and by what they look like: ${scrubbing.values} values in
${scrubbing.records} records; manifest.json and each record say where. No program finds all of them.
The text of a scrubbed record is NOT the text that was committed to, so that its commitment cannot be computed from it, and its nonce
is left out. Its proof still shows that a record with this commitment is in the log. Whoever may see the exact bytes exports them
with "raw": true.`
}
`
}
