/**
 * Response headers in which an application declares lineage to its proxy (`docs/reference/lineage.md`), and the forms of their values: the
 * proxy leaves out what does not fit, the SDK does not send it.
 */
export const LINEAGE_HEADERS = {
  sourceAssets: 'signet-lineage-source-assets',
  transformations: 'signet-lineage-transformations',
  modelVersion: 'signet-lineage-model-version',
  inputHash: 'signet-lineage-input-hash',
  timestampUtc: 'signet-lineage-timestamp-utc',
  classification: 'signet-data-classification',
  artifactVersion: 'signet-artifact-version',
} as const

export const LINEAGE_DIGEST = /^sha256:[0-9a-f]{64}$/
export const LINEAGE_TIMESTAMP = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/
/** An immutable id: a URN or URL that ends in a digest (`…@sha256:…`). */
export const LINEAGE_ASSET = /^[a-z][a-z0-9+.-]*:[\x21-\x7e]{1,1900}@sha256:[0-9a-f]{64}$/i
export const LINEAGE_NAME = /^[\x20-\x7e]{1,512}$/
/** Of a list; items are separated by commas. */
export const MAX_LINEAGE_ITEMS = 128
