// Runs inside the network namespace of a node under test and answers the DNS questions of its pods.
//   node dns-loop.ts ADDRESS API_URL CA_FILE TOKEN_FILE
import { readFileSync } from 'node:fs'
import { createApiClient } from './api-client.ts'
import { startDns } from './dns.ts'
import { createWire } from './wire.ts'

const [, , address = '', url = '', caFile = '', tokenFile = ''] = process.argv
const wire = createWire({ ca: readFileSync(caFile, 'utf8') })
await startDns({ address, client: createApiClient(url, readFileSync(tokenFile, 'utf8').trim(), wire) })
