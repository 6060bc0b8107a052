import { type ErrorCode, SluiceError } from '../core/errors.ts'
import type { ForwardedRequest, Upstream, UpstreamStream } from '../core/ports.ts'
import type { MessageRequest } from '../core/request.ts'
import { connectionError, openError } from './failures.ts'
import { KeyRing, type KeyRingOptions } from './keys.ts'
import { createSdk, PushedResponse, type SdkOptions, StreamTargets, statusErrorOf } from './sdk.ts'
import { EventStream } from './stream.ts'
import { createPool, type ResponseHeaders, StreamingResponse, send } from './transport.ts'

export type { SdkLog } from './sdk.ts'

export interface AnthropicOptions extends Omit<SdkOptions, 'apiKey'> {
  /** At least one; they are used in turn. */
  readonly apiKeys: readonly string[]
  /** Told once for each key, counted from 0, that Claude refuses while there are others. */
  readonly onKeyRefused: KeyRingOptions['onRefused']
  readonly connectTimeoutMs: number
  readonly maxEventBytes: number
  /** Tell Claude, or the gateway that is asked in its place, where a call stands in a trace. */
  readonly sendsTraceparent?: boolean
  /** For requests that are answered at once, in milliseconds. */
  readonly forwardTimeoutMs: number
}

export interface AnthropicUpstream extends Upstream {
  /** How many API keys are not used just now, for a model at least, by the error that they rest after. */
  restingKeys(): Partial<Record<ErrorCode, number>>
}

/**
 * Claude through the official SDK, which owns key, URL, headers, error classes and request ids. Its retries and
 * time-outs are off: the run is the only one to decide on either. Streams are opened and read below the SDK, which
 * swallows pings, takes any end for a good one and has no way to say that bytes stopped coming.
 */
export function anthropicUpstream(options: AnthropicOptions): AnthropicUpstream {
  const pool = createPool(options.connectTimeoutMs)
  const ring = new KeyRing({ keys: options.apiKeys.length, onRefused: options.onKeyRefused })
  const accounts = options.apiKeys.map((apiKey) => {
    const client = createSdk({ ...options, apiKey }, pool)
    return { client, targets: new StreamTargets(client) }
  })
  const accountOf = (key: number) => accounts[key] as (typeof accounts)[number]

  async function open(request: MessageRequest, signal: AbortSignal, traceparent?: string): Promise<UpstreamStream> {
    const { betas, version, user_profile_id, workspace_id, ...body } = request
    const key = ring.take(body.model, performance.now())
    const asked = accountOf(key).targets.for({
      accept: 'text/event-stream',
      ...requestHeaders({ betas, version }),
      ...(typeof user_profile_id === 'string' && { 'anthropic-user-profile-id': user_profile_id }),
      ...(typeof workspace_id === 'string' && { 'anthropic-workspace-id': workspace_id }),
    })
    const target = asked instanceof Promise ? await asked.catch(rethrow) : asked
    if (signal.aborted) throw aborted()
    const traced = options.sendsTraceparent && traceparent !== undefined
    const headers = traced ? [...target.headers, 'traceparent', traceparent] : target.headers
    const asking = { ...target, headers, method: 'POST', body: JSON.stringify({ ...body, stream: true }) } as const
    const response = await send(pool, asking, signal).catch((error) => {
      throw signal.aborted ? aborted() : connectionError(error, 'upstream_unreachable')
    })
    if (!(response instanceof StreamingResponse)) {
      throw ring.failed(key, body.model, await refusalOf(response), performance.now())
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
    // A limit of its own has each route, too.
    const key = ring.take(path, performance.now())
    const response = await accountOf(key)
      .client.request({ method: method === 'GET' ? 'get' : 'post', path, body: request.body, headers, timeout })
      .asResponse()
      .catch((thrown) => {
        throw ring.failed(key, path, openError(thrown), performance.now())
      })
    return response instanceof PushedResponse ? readJson(response.pushed, timeout) : response.json()
  }

  return { open, forward, restingKeys: () => ring.resting(performance.now()), close: () => pool.destroy() }
}

function requestHeaders({ betas, version }: Pick<ForwardedRequest, 'betas' | 'version'>): Record<string, string> {
  return {
    ...(betas && betas.length > 0 && { 'anthropic-beta': betas.join(',') }),
    ...(version !== undefined && { 'anthropic-version': version }),
  }
}

/** A 200 that is no event stream: a gateway that ignores `stream`, a login page, something compressed. */
function whyUnreadable(headers: ResponseHeaders): string | undefined {
  const encoding = headers.get('content-encoding')?.toLowerCase() ?? 'identity'
  if (encoding !== 'identity') return 'content-encoding'
  const type = headers.get('content-type')?.toLowerCase() ?? 'text/event-stream'
  return type.startsWith('text/event-stream') ? undefined : 'content-type'
}

/** A response without a stream: a failure, or a success that has no content. */
async function refusalOf(response: Response): Promise<SluiceError> {
  if (response.ok) return new SluiceError('upstream_protocol', { reason: `status ${response.status}` })
  return openError(await statusErrorOf(response))
}

function aborted(): SluiceError {
  return new SluiceError('upstream_error', { reason: 'aborted' })
}

function rethrow(thrown: unknown): never {
  throw openError(thrown)
}

/** @throws SluiceError */
function readJson(response: StreamingResponse, timeoutMs: number): Promise<unknown> {
  const chunks: Buffer[] = []
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
