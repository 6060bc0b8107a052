import type { RequestListener } from 'node:http'
import type { Socket } from 'node:net'
import cors from '@fastify/cors'
import Fastify, { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { describeFault, type ErrorCode, errorTable, SluiceError } from '../core/errors.ts'
import { randomText } from '../core/random.ts'
import { limitPerAddress } from './addresses.ts'
import { acceptJsonOnly } from './body.ts'
import { type NodeLimits, nodeLimits } from './node-limits.ts'
import { checkEdges } from './origin.ts'
import { addressMatcher } from './proxies.ts'
import { headLines, type SecurityHeaders, securityHeaders } from './security.ts'
import { limitBodyTime } from './slow-bodies.ts'
import { takeTicket } from './ticket-url.ts'
import type { Tls } from './tls.ts'
import { type HttpWatch, watchResponses } from './watch.ts'

export interface ServerOptions extends NodeLimits {
  /** Origins whose pages may use this server, each scheme, host and port, exactly. */
  readonly cors_origins: readonly string[]
  /** Values of `Host`, without port, as `plainHost` writes them, that are served; empty for any. */
  readonly allowed_hosts: readonly string[]
  /** Addresses or CIDR ranges of proxies whose `X-Forwarded-*` headers are believed. */
  readonly trusted_proxies: readonly string[]
  readonly max_body_bytes: number
  /** Connections that one address may have, proxies aside; 0 for any number. */
  readonly max_connections_per_address: number
  readonly tls?: { readonly hsts: boolean } | undefined
}

/** What the HTTP layer reports; never a body, never a header. */
export interface HttpLog {
  isLevelEnabled(level: 'debug'): boolean
  debug(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** The bare server: limits, hygiene, error shape. Routes are added by the caller. */
export async function createServer(
  options: ServerOptions,
  log: HttpLog,
  tls?: Tls,
  watch?: HttpWatch,
): Promise<FastifyInstance> {
  const isProxy = addressMatcher(options.trusted_proxies)
  const headers = securityHeaders({ shared: options.cors_origins.length > 0, strict: options.tls?.hsts === true })
  // A cache must not give the answer of one origin to another, and a refusal is an answer.
  const all = { ...headers, ...(options.cors_origins.length > 0 && { vary: 'Origin' }) }
  const app = Fastify({
    logger: false,
    bodyLimit: options.max_body_bytes,
    exposeHeadRoutes: false,
    trustProxy: options.trusted_proxies.length > 0 ? isProxy : false,
    rewriteUrl: takeTicket,
    genReqId: (request) => acceptedRequestId(request.headers['x-request-id']) ?? newRequestId(),
    // Fastify would set 0, which lets a slow body live for ever.
    requestTimeout: options.request_timeout_ms,
    // Which kind of server it is changes none of its types here.
    ...((tls ? secureOptions(tls) : { http: nodeLimits(options) }) as object),
    // Live streams are ended by us; what is left when the server closes has nothing more to say.
    forceCloseConnections: true,
    clientErrorHandler: (error, socket) => answerClientError(error, socket, headers),
    // What cannot be read as a request has met no hook.
    frameworkErrors: (error, request, reply) => sendError(reply.headers(all), request, toHttpError(error)),
  })

  const edges = {
    cors_origins: new Set(options.cors_origins),
    allowed_hosts: new Set(options.allowed_hosts),
  }
  app.addHook('onRequest', (request, reply, done) => {
    reply.headers(all).header('x-request-id', request.id)
    try {
      checkEdges(request, edges)
      done()
    } catch (refusal) {
      done(refusal as SluiceError)
    }
  })
  if (options.cors_origins.length > 0) await app.register(cors, corsOptions(options.cors_origins))
  if (tls?.http2) limitBodyTime(app, options.request_timeout_ms)
  const { max_connections_per_address } = options
  if (max_connections_per_address > 0) limitPerAddress(app.server, max_connections_per_address, isProxy)
  acceptJsonOnly(app)
  watchResponses(app, watch)

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

/** What pages of other origins may read of ours. */
const ownHeaders = ['X-Stream-Id', 'X-Resumable', 'X-Request-Id', 'RateLimit', 'RateLimit-Policy']

/** The first is for the URL that Fastify tells. */
function secureOptions(tls: Tls) {
  return { https: true, serverFactory: (handler: RequestListener) => tls.createServer(handler) }
}

function corsOptions(origins: readonly string[]) {
  return {
    origin: [...origins],
    // Request headers are not listed: SDKs send a dozen of their own, and the origin is one we were told to trust.
    methods: ['GET', 'POST', 'DELETE'],
    exposedHeaders: ['Request-Id', 'Retry-After', 'Location', ...ownHeaders],
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
  reply.failure = error
  const { status, body } = shape(error, request.id)
  const waiting =
    error.retryable && (status === 429 || status === 503 || status === 529) ? standardRetryAfterMs : undefined
  // RFC 9110 wants it on every 401.
  if (status === 401) reply.header('www-authenticate', challenges[error.code] ?? 'Bearer')
  const retryAfterMs = error.retryAfterMs ?? waiting
  if (retryAfterMs !== undefined) reply.header('retry-after', retryAfterSeconds(retryAfterMs, error.retryable))
  // Both big SDKs ask this before their own table of statuses, which would send again what cannot go well.
  if (shape !== ownShape) reply.header('x-should-retry', String(error.retryable))
  // What of the body has not been read would be taken for the next request. HTTP/2 tells them apart, and has no such
  // header, which Fastify sets by itself.
  if (request.raw.httpVersionMajor === 2) reply.removeHeader('connection')
  else if (error.status === 413 || error.status === 408) reply.header('connection', 'close')
  return reply.code(status).headers({ 'cache-control': 'no-store', 'x-request-id': request.id }).send(body)
}

/** @see https://www.rfc-editor.org/rfc/rfc6750#section-3.1 */
const challenges: Partial<Record<ErrorCode, string>> = {
  token_invalid: 'Bearer error="invalid_token"',
  token_expired: 'Bearer error="invalid_token", error_description="The token has expired"',
}

/** For failures that pass by themselves, when nobody has said how soon. */
const standardRetryAfterMs = 2_000

/**
 * Whole seconds, at least one. Nobody should wait on a header for longer than five minutes; but what is of no use before
 * tomorrow is said to be.
 */
function retryAfterSeconds(milliseconds: number, retryable: boolean): number {
  return Math.min(retryable ? 300 : 86_400, Math.max(1, Math.ceil(milliseconds / 1000)))
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

const clientErrorCodes: Record<string, ErrorCode> = {
  ERR_HTTP_REQUEST_TIMEOUT: 'request_timeout',
  HPE_HEADER_OVERFLOW: 'headers_too_large',
}

/** Answers what never became a request: slow, oversized or malformed heads. */
function answerClientError(error: NodeJS.ErrnoException, socket: Socket, headers: SecurityHeaders): void {
  const { code: fault = '' } = error
  const isHttp = fault.startsWith('HPE_') || fault === 'ERR_HTTP_REQUEST_TIMEOUT'
  // Anything else is a connection that is lost, or one that TLS could not begin on.
  if (!isHttp || !socket.writable) return void socket.destroy()
  // In the middle of an answer, another one would be taken for a part of it.
  if (socket.bytesWritten > 0) return void socket.destroySoon()
  const code = clientErrorCodes[fault] ?? 'invalid_request'
  const { status, message, retryable } = errorTable[code]
  const body = JSON.stringify({ error: { code, message, retryable, request_id: newRequestId() } })
  const head = [
    `HTTP/1.1 ${status} Error`,
    'content-type: application/json; charset=utf-8',
    `content-length: ${Buffer.byteLength(body)}`,
    'cache-control: no-store',
    'connection: close',
    ...headLines(headers),
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
}
