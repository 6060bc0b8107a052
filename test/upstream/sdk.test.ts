import type { IncomingMessage } from 'node:http'
import { Anthropic } from '@anthropic-ai/sdk'
import { expect, it, onTestFinished } from 'vitest'
import type { MessageRequest } from '../../src/core/request.ts'
import { anthropicUpstream } from '../../src/upstream/anthropic.ts'
import { openError } from '../../src/upstream/failures.ts'
import { StreamTargets, statusErrorOf } from '../../src/upstream/sdk.ts'
import { serve } from '../support/serve.ts'

const message = { model: 'claude-sim', max_tokens: 5, messages: [{ role: 'user', content: 'hällo' }] }
const apiKey = 'sk-test'

/** What the SDK itself hands to `fetch`. */
async function askedBySdk(baseURL: string, headers: Record<string, string>) {
  const asked: { url: string; init: RequestInit }[] = []
  const client = new Anthropic({
    apiKey,
    authToken: null,
    baseURL,
    maxRetries: 0,
    timeout: 24 * 3600 * 1000,
    openTelemetry: false,
    fetch: async (input, init = {}) => {
      asked.push({ url: String(input), init })
      return new Response('', { headers: { 'content-type': 'text/event-stream' } })
    },
  })
  await client.post('/v1/messages', { body: { ...message, stream: true }, headers, stream: true }).asResponse()
  const [{ url, init } = { url: '', init: {} as RequestInit }] = asked
  return { url, method: init.method, headers: Object.fromEntries(new Headers(init.headers)), body: init.body }
}

/** What comes to a server that takes our requests. */
async function recorder() {
  const asked: { url: string; method: string | undefined; headers: IncomingMessage['headers']; body: string }[] = []
  const url = await serve(async (request, response) => {
    const body = (await request.setEncoding('utf8').toArray()).join('')
    asked.push({ url: `${url}${request.url}`, method: request.method, headers: request.headers, body })
    response.writeHead(200, { 'content-type': 'text/event-stream' }).end()
  })
  return { url, asked }
}

const choices = [undefined, 'a', 'b']
const combinations = choices.flatMap((user_profile_id) =>
  choices.flatMap((workspace_id) =>
    [undefined, '2023-06-01', '2024-01-01'].flatMap((version) =>
      [undefined, [], ['one-2024-01-01'], ['one-2024-01-01', 'two-2025-02-02']].map(
        (betas): Partial<MessageRequest> => ({ user_profile_id, workspace_id, version, betas }),
      ),
    ),
  ),
)

it.each([
  '',
  '/',
  '/gateway?team=x',
])('asks as the SDK does, whatever clients choose, under a base URL with %j', async (path) => {
  const { url, asked } = await recorder()
  const baseUrl = url + path
  const upstream = anthropicUpstream({
    apiKeys: [apiKey],
    onKeyRefused: () => {},
    baseUrl,
    connectTimeoutMs: 1_000,
    maxEventBytes: 1_000,
    forwardTimeoutMs: 1_000,
    log: { warn: () => {} },
  })
  onTestFinished(() => upstream.close())
  // Twice and in turn: nobody may get what was made for another.
  for (const chosen of [...combinations, ...combinations]) {
    asked.length = 0
    await upstream.open({ ...message, ...chosen }, new AbortController().signal)
    const { user_profile_id, workspace_id, version, betas } = chosen
    const expected = await askedBySdk(baseUrl, {
      accept: 'text/event-stream',
      ...(betas?.length && { 'anthropic-beta': betas.join(',') }),
      ...(version && { 'anthropic-version': version }),
      ...(typeof user_profile_id === 'string' && { 'anthropic-user-profile-id': user_profile_id }),
      ...(typeof workspace_id === 'string' && { 'anthropic-workspace-id': workspace_id }),
    })
    const [{ headers: { host: _, connection: __, 'content-length': ___, ...headers } = {}, ...request } = {}] = asked
    expect({ ...request, headers }).toEqual({
      ...expected,
      headers: { ...expected.headers, 'accept-encoding': 'identity' },
    })
  }
})

it('keeps what it knows of the SDK within bounds', async () => {
  let built = 0
  const client = {
    async buildRequest({ headers }: { headers: Record<string, string> }) {
      built++
      return { req: { headers: new Headers(headers) }, url: 'http://127.0.0.1/v1/messages' }
    },
  }
  const targets = new StreamTargets(client as unknown as Anthropic)
  const user = (n: number) => ({ 'anthropic-user-profile-id': `u${n}` })
  for (let n = 0; n < 500; n++) await targets.for(user(n))
  for (let n = 0; n < 500; n++) await targets.for(user(n))
  expect(built).toBe(500)
  await targets.for(user(500))
  // The oldest made room, and is asked for again.
  expect((await targets.for(user(0))).headers).toEqual([
    'accept-encoding',
    'identity',
    'anthropic-user-profile-id',
    'u0',
  ])
  expect(built).toBe(502)
})

it('asks again after the SDK could not tell', async () => {
  const answers = [Promise.reject(new TypeError('x')), { req: { headers: new Headers() }, url: 'http://127.0.0.1/' }]
  const targets = new StreamTargets({ buildRequest: async () => answers.shift() } as unknown as Anthropic)
  await expect(targets.for({})).rejects.toThrow('x')
  expect(await targets.for({})).toMatchObject({ origin: 'http://127.0.0.1', path: '/' })
})

it.each([302, 304, 400, 401, 402, 404, 413, 429, 500, 503, 529])('takes a %i as the SDK does', async (status) => {
  const bodies = [
    '',
    '<html>',
    'null',
    '{}',
    '"x"',
    '[1]',
    '{"type":"error","error":{"type":"invalid_request_error","message":"too long"}}',
    '{"error":{"type":"rate_limit_error","message":"x","details":{"error_code":"enforced_spend_limit_reached"}}}',
  ]
  const headers = { 'request-id': 'req_1', 'retry-after': '7' }
  const responses = bodies.map((body) => () => new Response(status === 304 ? null : body, { status, headers }))
  for (const response of responses) {
    const client = new Anthropic({ apiKey, authToken: null, maxRetries: 0, fetch: async () => response() })
    const thrown: unknown = await client
      .post('/v1/messages', { body: message })
      .asResponse()
      .catch((error) => error)
    const ours = await statusErrorOf(response())
    expect(openError(ours)).toEqual(openError(thrown))
    const { code, reason, retryAfterMs, upstreamRequestId, message: sentence } = openError(thrown)
    expect(openError(ours)).toMatchObject({ code, reason, retryAfterMs, upstreamRequestId, message: sentence })
  }
})
