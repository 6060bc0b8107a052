import Anthropic from '@anthropic-ai/sdk'
import { SluiceError } from '../core/errors.ts'
import type { ForwardedRequest, Upstream, UpstreamStream } from '../core/ports.ts'
import type { MessageRequest } from '../core/request.ts'
import { connectionError, openError } from './failures.ts'
import { EventStream } from './stream.ts'
import { createPool, StreamingResponse, streamingFetch } from './transport.ts'

/** Where the SDK's warnings go; they come without the details it adds, which hold headers and bodies. */
export interface SdkLog {
  warn(message: string): void
}

export interface AnthropicOptions {
  readonly apiKey: string
  readonly baseUrl: string
  readonly connectTimeoutMs: number
  readonly maxEventBytes: number
  /** For requests that are answered at once, in milliseconds. */
  readonly forwardTimeoutMs: number
  readonly log: SdkLog
}

/**
 * Claude through the official SDK, which owns key, URL, headers, error classes and request ids. Its retries and
 * time-outs are off: the run is the only one to decide on either. The stream is read below the SDK, which swallows
 * pings, takes any end for a good one and has no way to say that bytes stopped coming.
 */
export function anthropicUpstream(options: AnthropicOptions): Upstream {
  const pool = createPool(options.connectTimeoutMs)
  const { log } = options
  const client = new Anthropic({
    apiKey: options.apiKey,
    authToken: null,
    baseURL: options.baseUrl,
    maxRetries: 0,
    // The SDK's timer ends at the response headers; the run's headers clock is always the earlier one.
    timeout: 24 * 3600 * 1000,
    fetch: streamingFetch(pool),
    openTelemetry: false,
    logLevel: 'warn',
    logger: {
      error: (message) => log.warn(message),
      warn: (message) => log.warn(message),
      info: () => {},
      debug: () => {},
    },
  })

  async function open(request: MessageRequest, signal: AbortSignal): Promise<UpstreamStream> {
    const { betas, version, user_profile_id, workspace_id, ...body } = request
    const response = await client
      .post('/v1/messages', {
        body: { ...body, stream: true },
        headers: {
          accept: 'text/event-stream',
          ...requestHeaders({ betas, version }),
          ...(typeof user_profile_id === 'string' && { 'anthropic-user-profile-id': user_profile_id }),
          ...(typeof workspace_id === 'string' && { 'anthropic-workspace-id': workspace_id }),
        },
        signal,
        stream: true,
      })
      .asResponse()
      .catch(rethrow)
    if (!(response instanceof StreamingResponse)) {
      throw new SluiceError('upstream_protocol', { reason: `status ${response.status}` })
    }
    const unreadable = whyUnreadable(response.headers)
    if (unreadable) {
      response.control.abort(new Error(unreadable))
      throw new SluiceError('upstream_protocol', { reason: unreadable })
    }
    return new EventStream(response, options.maxEventBytes, signal)
  }

  async function forward(method: 'GET' | 'POST', path: string, request: ForwardedRequest): Promise<unknown> {
    const timeout = options.forwardTimeoutMs
    const headers = requestHeaders(request)
    const response = await client
      .request({ method: method === 'GET' ? 'get' : 'post', path, body: request.body, headers, timeout })
      .asResponse()
      .catch(rethrow)
    return response instanceof StreamingResponse ? readJson(response, timeout) : response.json()
  }

  return { open, forward, close: () => pool.destroy() }
}

function requestHeaders({ betas, version }: Pick<ForwardedRequest, 'betas' | 'version'>): Record<string, string> {
  return {
    ...(betas && betas.length > 0 && { 'anthropic-beta': betas.join(',') }),
    ...(version !== undefined && { 'anthropic-version': version }),
  }
}

/** A 200 that is no event stream: a gateway that ignores `stream`, a login page, something compressed. */
function whyUnreadable(headers: Headers): string | undefined {
  const encoding = headers.get('content-encoding')?.toLowerCase() ?? 'identity'
  if (encoding !== 'identity') return 'content-encoding'
  const type = headers.get('content-type')?.toLowerCase() ?? 'text/event-stream'
  return type.startsWith('text/event-stream') ? undefined : 'content-type'
}

function rethrow(thrown: unknown): never {
  throw openError(thrown)
}

/** @throws SluiceError */
function readJson(response: StreamingResponse, timeoutMs: number): Promise<unknown> {
  const chunks: Uint8Array[] = []
  // The SDK's own timer ended at the headers.
  const timer = setTimeout(() => response.control.abort(new Error('timed out')), timeoutMs)
  return new Promise((resolve, reject) => {
    response.attach({
      onBytes: (bytes) => void chunks.push(bytes),
      onEnd: () => {
        clearTimeout(timer)
        try {
          resolve(JSON.parse(Buffer.concat(chunks).toString('utf8')))
        } catch {
          reject(new SluiceError('upstream_protocol', { reason: 'invalid JSON' }))
        }
      },
      onError: (error) => {
        clearTimeout(timer)
        reject(connectionError(error, 'upstream_truncated'))
      },
    })
  })
}
