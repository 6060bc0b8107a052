import type { Socket } from 'node:net'
import cors from '@fastify/cors'
import Fastify, { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { describeFault, type ErrorCode, errorTable, SluiceError } from '../core/errors.ts'
import { randomText } from '../core/random.ts'
import { acceptJsonOnly } from './body.ts'

export interface ServerOptions {
  /** Origins whose pages may use this server, each scheme, host and port, exactly. */
  readonly cors_origins: readonly string[]
  /** Values of `Host`, without port, that are served; empty for any. */
  readonly allowed_hosts: readonly string[]
  /** Addresses or CIDR ranges of proxies whose `X-Forwarded-*` headers are believed. */
  readonly trusted_proxies: readonly string[]
  readonly max_body_bytes: number
  /** How long a client may take to send its headers, in milliseconds. */
  readonly headers_timeout_ms: number
  /** How long a client may take to send its whole request, in milliseconds. */
  readonly request_timeout_ms: number
}

/** What the HTTP layer reports; never a body, never a header. */
export interface HttpLog {
  isLevelEnabled(level: 'debug'): boolean
  debug(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** The bare server: limits, hygiene, error shape. Routes are added by the caller. */
export async function createServer(options: ServerOptions, log: HttpLog): Promise<FastifyInstance> {
  const app = Fastify({
    logger: false,
    bodyLimit: options.max_body_bytes,
    exposeHeadRoutes: false,
    trustProxy: options.trusted_proxies.length > 0 ? [...options.trusted_proxies] : false,
    genReqId: (request) => acceptedRequestId(request.headers['x-request-id']) ?? newRequestId(),
    // Fastify would set 0, which lets a slow body live for ever; Node checks only as often as the interval says.
    requestTimeout: options.request_timeout_ms,
    http: {
      headersTimeout: options.headers_timeout_ms,
      requestTimeout: options.request_timeout_ms,
      connectionsCheckingInterval: Math.min(1_000, options.headers_timeout_ms),
      // Finds peers that vanished while nothing is on its way to them.
      keepAlive: true,
      keepAliveInitialDelay: 15_000,
    },
    // Live streams are ended by us; what is left when the server closes has nothing more to say.
    forceCloseConnections: true,
    clientErrorHandler: answerClientError,
    frameworkErrors: (error, request, reply) => sendError(reply, request, toHttpError(error)),
  })

  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id)
    reply.header('x-content-type-options', 'nosniff')
    if (!isAllowedHost(request.headers.host, options.allowed_hosts)) return done(new SluiceError('host_not_allowed'))
    if (isForeignPage(request, options.cors_origins)) return done(new SluiceError('origin_not_allowed'))
    done()
  })
  if (options.cors_origins.length > 0) await app.register(cors, corsOptions(options.cors_origins))
  acceptJsonOnly(app)

  app.setErrorHandler((thrown: FastifyError | Error, request, reply) =>
    answerError(thrown, request, reply, log, ownShape),
  )
  app.setNotFoundHandler((request, reply) => sendError(reply, request, new SluiceError('route_not_found')))
  if (log.isLevelEnabled('debug')) app.addHook('onResponse', logRequest)
  return app

  function logRequest(request: FastifyRequest, reply: FastifyReply, done: () => void): void {
    const { method, id, routeOptions } = request
    const duration_ms = Math.round(reply.elapsedTime)
    log.debug({ request_id: id, method, route: routeOptions.url, status: reply.statusCode, duration_ms }, 'request')
    done()
  }
}

function corsOptions(origins: readonly string[]) {
  return {
    origin: [...origins],
    // Request headers are not listed: SDKs send a dozen of their own, and the origin is one we were told to trust.
    methods: ['GET', 'POST', 'DELETE'],
    exposedHeaders: ['Request-Id', 'X-Stream-Id', 'X-Request-Id', 'Retry-After', 'Location'],
    maxAge: 600,
  }
}

/** How clients of one family want a failure told. */
export type ErrorShape = (error: SluiceError, requestId: string) => { status: number; body: object }

/** `{"error":{code,message,retryable,request_id}}`, for all routes that are not another API's. */
const ownShape: ErrorShape = (error, requestId) => ({
  status: error.status,
  body: { error: { ...error.toPublic(), request_id: requestId } },
})

/** Routes whose failures are told in the shape of another API. */
export async function withErrorShape(
  app: FastifyInstance,
  log: HttpLog,
  shape: ErrorShape,
  routes: (scope: FastifyInstance) => void,
): Promise<void> {
  await app.register(async (scope) => {
    scope.setErrorHandler((thrown: FastifyError | Error, request, reply) =>
      answerError(thrown, request, reply, log, shape),
    )
    routes(scope)
  })
}

function answerError(
  thrown: FastifyError | Error,
  request: FastifyRequest,
  reply: FastifyReply,
  log: HttpLog,
  shape: ErrorShape,
): FastifyReply {
  const error = toHttpError(thrown)
  if (error.code === 'internal') log.error({ request_id: request.id, fault: describeFault(thrown) }, 'internal error')
  return sendError(reply, request, error, shape)
}

function sendError(
  reply: FastifyReply,
  request: FastifyRequest,
  error: SluiceError,
  shape: ErrorShape = ownShape,
): FastifyReply {
  const { status, body } = shape(error, request.id)
  const waiting =
    error.retryable && (status === 429 || status === 503 || status === 529) ? standardRetryAfterMs : undefined
  // RFC 9110 wants it on every 401.
  if (status === 401) reply.header('www-authenticate', 'Bearer')
  const retryAfterMs = error.retryAfterMs ?? waiting
  if (retryAfterMs !== undefined) reply.header('retry-after', retryAfterSeconds(retryAfterMs))
  // Both big SDKs ask this before their own table of statuses, which would send again what cannot go well.
  if (shape !== ownShape) reply.header('x-should-retry', String(error.retryable))
  // What of the body has not been read would be taken for the next request.
  if (error.status === 413 || error.status === 408) reply.header('connection', 'close')
  return reply.code(status).headers({ 'cache-control': 'no-store', 'x-request-id': request.id }).send(body)
}

/** For failures that pass by themselves, when nobody has said how soon. */
const standardRetryAfterMs = 2_000

/** Whole seconds, at least one and at most five minutes: nobody should wait on a header for longer. */
function retryAfterSeconds(milliseconds: number): number {
  return Math.min(300, Math.max(1, Math.ceil(milliseconds / 1000)))
}

const codesByStatus: Record<number, ErrorCode> = {
  400: 'invalid_request',
  404: 'route_not_found',
  408: 'request_timeout',
  413: 'body_too_large',
  414: 'invalid_request',
  415: 'unsupported_media_type',
  431: 'headers_too_large',
}

/** What Fastify throws by itself keeps its status; its sentences, which may quote input, are replaced by ours. */
function toHttpError(thrown: FastifyError | Error): SluiceError {
  if (thrown instanceof SluiceError) return thrown
  const status = 'statusCode' in thrown ? thrown.statusCode : undefined
  const code = status === undefined ? undefined : codesByStatus[status]
  return new SluiceError(code ?? 'internal', { cause: thrown })
}

function newRequestId(): string {
  return `req_${randomText(12)}`
}

/** A caller's own request id is kept when nothing can be injected by it. */
function acceptedRequestId(header: string | string[] | undefined): string | undefined {
  return typeof header === 'string' && /^[\w.-]{1,64}$/.test(header) ? header : undefined
}

/** DNS rebinding makes a browser send other sites' names to this address. */
function isAllowedHost(header: string | undefined, allowed: readonly string[]): boolean {
  if (allowed.length === 0) return true
  const host = (header ?? '').toLowerCase().replace(/:\d+$/, '')
  return allowed.includes(host)
}

/**
 * Without CORS permission a page cannot read an answer, but it can have one generated: an `<img>` is enough to spend.
 * Browsers say where a request comes from, and no page can make them say otherwise.
 * @see https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header
 */
function isForeignPage({ headers }: FastifyRequest, origins: readonly string[]): boolean {
  return headers['sec-fetch-site'] === 'cross-site' && !origins.includes(headers.origin ?? '')
}

const clientErrorCodes: Record<string, ErrorCode> = {
  ERR_HTTP_REQUEST_TIMEOUT: 'request_timeout',
  HPE_HEADER_OVERFLOW: 'headers_too_large',
}

/** Answers what never became a request: slow, oversized or malformed heads. */
function answerClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy()
  const code = clientErrorCodes[error.code ?? ''] ?? 'invalid_request'
  const { status, message, retryable } = errorTable[code]
  const body = JSON.stringify({ error: { code, message, retryable, request_id: newRequestId() } })
  const head = [
    `HTTP/1.1 ${status} Error`,
    'content-type: application/json; charset=utf-8',
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
}
