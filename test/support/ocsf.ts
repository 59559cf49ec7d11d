import { readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'

const SCHEMA = new URL('../vectors/ocsf/api_activity-1.3.0.schema.json', import.meta.url)
// Strict: a keyword of the schema that is not checked is an error, not a hole. Patterns of OCSF are not written for the `u` flag.
const validate = new Ajv2020({
  allErrors: true,
  strict: true,
  strictTypes: false,
  strictRequired: false,
  unicodeRegExp: false,
}).compile(JSON.parse(readFileSync(SCHEMA, 'utf8')) as object)

/** What is wrong with an event by the published schema of its class (`test/vectors/ocsf`), a line each; none where it is valid. */
export function ocsfFaults(event: unknown): string[] {
  // As a consumer gets it: `undefined` and the like are gone.
  return validate(JSON.parse(JSON.stringify(event)))
    ? []
    : (validate.errors ?? []).map(
        ({ instancePath, message, params }) => `${instancePath} ${message} ${JSON.stringify(params)}`,
      )
}
