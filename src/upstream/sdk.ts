import Anthropic, { APIError } from '@anthropic-ai/sdk'
import type { Dispatcher } from 'undici'
import { type OutgoingRequest, StreamingResponse, send } from './transport.ts'

/** Where the SDK's warnings go; they come without the details it adds, which hold headers and bodies. */
export interface SdkLog {
  warn(message: string): void
}

export interface SdkOptions {
  readonly apiKey: string
  readonly baseUrl: string
  readonly log: SdkLog
}

export function createSdk({ apiKey, baseUrl, log }: SdkOptions, dispatcher: Dispatcher): Anthropic {
  return new Anthropic({
    apiKey,
    authToken: null,
    baseURL: baseUrl,
    maxRetries: 0,
    // The SDK's timer ends at the response headers; the run's headers clock is always the earlier one.
    timeout: 24 * 3600 * 1000,
    fetch: pushingFetch(dispatcher),
    openTelemetry: false,
    logLevel: 'warn',
    logger: {
      error: (message) => log.warn(message),
      warn: (message) => log.warn(message),
      info: () => {},
      debug: () => {},
    },
  })
}

/** What `pushingFetch` gives for a success: all but the body, which is to be had from `pushed`. */
export class PushedResponse extends Response {
  readonly pushed: StreamingResponse

  constructor(pushed: StreamingResponse) {
    super(null, { status: pushed.status, headers: pushed.headers.toHeaders() })
    this.pushed = pushed
  }
}

/** A `fetch` for the SDK: the SDK builds the request and maps the errors, the bytes come from undici. */
function pushingFetch(dispatcher: Dispatcher): typeof fetch {
  return async (input, init = {}) => {
    const request = {
      ...targetOf(input instanceof Request ? input.url : input, init.headers),
      method: (init.method ?? 'GET') as Dispatcher.HttpMethod,
      body: (init.body ?? null) as string | null,
    }
    const response = await send(dispatcher, request, init.signal ?? undefined)
    return response instanceof StreamingResponse ? new PushedResponse(response) : response
  }
}

export type Target = Pick<OutgoingRequest, 'origin' | 'path' | 'headers'>

/** It asks for no compression, which would hold events back. */
function targetOf(address: string | URL, init: Headers | RequestInit['headers']): Target {
  const { origin, pathname, search } = new URL(address)
  const headers = new Headers(init)
  headers.set('accept-encoding', 'identity')
  return { origin, path: pathname + search, headers: [...headers].flat() }
}

/** More than the tenants and users that ask at one time; each entry is some 2 KB. */
const maxTargets = 500

/**
 * Where streams are asked for and with what headers, key included, as the SDK has it. They depend on nothing but the
 * few headers that clients decide on, so it is asked once for each set of these: asking takes it 100 µs.
 */
export class StreamTargets {
  readonly #client: Anthropic
  readonly #known = new Map<string, Target>()

  constructor(client: Anthropic) {
    this.#client = client
  }

  for(headers: Record<string, string>): Target | Promise<Target> {
    const key = JSON.stringify(headers)
    return this.#known.get(key) ?? this.#ask(headers, key)
  }

  async #ask(headers: Record<string, string>, key: string): Promise<Target> {
    // What is in the body does not matter here, but only with one is there a `content-type`.
    const { req, url } = await this.#client.buildRequest({ method: 'post', path: '/v1/messages', body: {}, headers })
    const target = targetOf(url, req.headers)
    const [oldest] = this.#known.keys()
    if (this.#known.size >= maxTargets && oldest !== undefined) this.#known.delete(oldest)
    this.#known.set(key, target)
    return target
  }
}

/** The SDK's own error for a refusal, made the way its requests make it. */
export async function statusErrorOf(response: Response): Promise<APIError> {
  const text = await response.text()
  const body = parseJson(text)
  return APIError.generate(response.status, body, body ? undefined : text, response.headers)
}

function parseJson(text: string): object | undefined {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
