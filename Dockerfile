# Install scripts are left out: nothing that Sluice or its build needs has one.
FROM node:24-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN npm run build

FROM node:24-slim AS modules
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts

FROM node:24-slim
# In a container only 0.0.0.0 can be reached from outside it, so Sluice cannot tell whether anything keeps strangers
# out: it refuses to start until SLUICE_ACCESS__MODE is set where the container is run. That is why it is not here.
# HOST and PORT win over server.host and server.port of a file.
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8787
WORKDIR /app
COPY package.json LICENSE ./
COPY config ./config
COPY --from=modules /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
# Sluice writes nothing to disk: the container may run with --read-only.
USER node
EXPOSE 8787
# Not ready at once, then up to server.drain_ms for live streams: whatever stops the container must wait longer.
STOPSIGNAL SIGTERM
# With or without TLS, whose certificate names no address of the loopback.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
  CMD ["node", "-e", "const at = { port: process.env.PORT, path: '/healthz', rejectUnauthorized: false }, end = (r) => process.exit(r.statusCode === 200 ? 0 : 1); http.get(at, end).on('error', () => https.get(at, end).on('error', () => process.exit(1)))"]
CMD ["node", "dist/cli.js"]
