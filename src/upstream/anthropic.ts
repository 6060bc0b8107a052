import Anthropic from '@anthropic-ai/sdk'
import { SluiceError } from '../core/errors.ts'
import type { Upstream, UpstreamStream } from '../core/ports.ts'
import type { MessageRequest } from '../core/request.ts'
import { openError } from './failures.ts'
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
    const { betas, user_profile_id, workspace_id, ...body } = request
    let response: Response
    try {
      response = await client
        .post('/v1/messages', {
          body: { ...body, stream: true },
          headers: {
            accept: 'text/event-stream',
            ...(betas?.length && { 'anthropic-beta': betas.join(',') }),
            ...(typeof user_profile_id === 'string' && { 'anthropic-user-profile-id': user_profile_id }),
            ...(typeof workspace_id === 'string' && { 'anthropic-workspace-id': workspace_id }),
          },
          signal,
          stream: true,
        })
        .asResponse()
    } catch (thrown) {
      throw openError(thrown)
    }
    if (!(response instanceof StreamingResponse)) {
      throw new SluiceError('upstream_protocol', { reason: `status ${response.status}` })
    }
    return new EventStream(response, options.maxEventBytes, signal)
  }

  return { open, close: () => pool.destroy() }
}
