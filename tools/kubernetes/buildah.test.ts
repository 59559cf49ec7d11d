import { expect, it } from 'vitest'
import { buildAtOnce } from './buildah.ts'

const DOCKERFILE = `ARG BASE=x
FROM \${BASE} AS runtime
COPY core core

# The proxy.
FROM runtime AS proxy
ENTRYPOINT ["proxy"]

FROM runtime AS ledger
ENTRYPOINT ["ledger"]
`

it('marks each target and stands on all of them', () => {
  expect(buildAtOnce(DOCKERFILE, ['proxy', 'ledger'], 'm')).toBe(`ARG BASE=x
FROM \${BASE} AS runtime
COPY core core

# The proxy.
FROM runtime AS proxy
ENTRYPOINT ["proxy"]
LABEL signet.dev/test-build=m-proxy

FROM runtime AS ledger
ENTRYPOINT ["ledger"]
LABEL signet.dev/test-build=m-ledger

FROM scratch AS signet-all-at-once
COPY --from=proxy /etc/passwd /0
COPY --from=ledger /etc/passwd /1
`)
})
