import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { messageFields } from '../../src/core/request.ts'
import { formats } from '../../src/formats/registry.ts'
import { holder, lettingIn } from '../support/access.ts'
import { fetchAll, type RequestOptions } from '../support/client.ts'
import { audience, issuerUrl, startIssuer } from '../support/issuer.ts'
import { sendRaw } from '../support/raw.ts'
import { serve } from '../support/serve.ts'
import { openRig, type Rig, sim, startRig } from '../support/sluice.ts'

/** What gets out that should stay in, by the number of docs/threat-model.md. */
const [alice, bob] = [holder('alice'), holder('bob')]
const apiKey = 'sk-ant-api03-CANARYKEY'
const presetSecret = 'The code word of the house is swordfish.'
const mcpSecret = 'CANARYTOKEN-of-a-server-of-tools'
const model = sim({ text: 3 })

let canaries = 0
/** A text that stands nowhere else. */
const canary = () => `CANARY${++canaries}X`
const anyCanary = /CANARY\w*/g

/** Every string that a value of this shape may hold, with a canary in each place. */
const everywhere = () => ({
  prompt: canary(),
  system: [{ type: 'text', text: canary(), cache_control: { type: canary() } }],
  metadata: { user_id: canary() },
  stop_sequences: [canary()],
  tools: [
    {
      name: canary(),
      description: canary(),
      input_schema: { type: 'object', properties: { [canary()]: { type: canary() } } },
    },
    { type: canary(), name: canary() },
  ],
  tool_choice: { type: 'tool', name: canary() },
  thinking: { type: canary() },
  output_config: { format: { type: canary() } },
  output_format: { type: canary() },
  cache_control: { type: canary() },
  container: canary(),
  context_management: { edits: [{ type: canary() }] },
  compaction: { type: canary() },
  diagnostics: { previous_message_id: canary() },
  inference_geo: canary(),
  service_tier: canary(),
  speed: canary(),
  mcp_servers: [{ type: 'url', url: `https://${canary()}.test`, name: canary(), authorization_token: canary() }],
  fallbacks: [{ model: canary(), thinking: { type: canary() } }],
  fallback_credit_token: canary(),
  billing_policy: { type: canary() },
  thread: { id: canary() },
  betas: [canary()],
  user_profile_id: canary(),
  workspace_id: canary(),
})

const messagesWithAll = (call = canary()) => [
  {
    role: 'user',
    content: [
      { type: 'text', text: canary(), [canary()]: canary() },
      { type: 'image', source: { type: 'base64', media_type: canary(), data: canary() } },
      { type: 'image', source: { type: 'url', url: `https://${canary()}.test/${canary()}` } },
      { type: 'document', source: { type: 'file', file_id: canary() }, title: canary(), context: canary() },
      { type: canary(), source: canary() },
    ],
  },
  {
    role: 'assistant',
    content: [
      { type: 'thinking', thinking: canary(), signature: canary() },
      { type: 'tool_use', id: call, name: canary(), input: { [canary()]: canary() } },
    ],
  },
  {
    role: 'user',
    content: [{ type: 'tool_result', tool_use_id: call, content: [{ type: 'text', text: canary() }] }],
  },
]

/** The body of every POST, with all that it may hold. */
function bodies(asked = model): Record<string, Record<string, unknown>> {
  const call = canary()
  const { prompt, betas: _, user_profile_id: __, workspace_id: ___, ...fields } = everywhere()
  return {
    '/stream': { ...everywhere(), model: asked },
    '/api/chat': { ...everywhere(), prompt: undefined, messages: messagesWithAll(), model: asked },
    '/v1/messages': { ...fields, model: asked, max_tokens: 9, messages: messagesWithAll(), [canary()]: canary() },
    '/v1/messages/count_tokens': { ...fields, model: asked, messages: messagesWithAll() },
    '/v1/chat/completions': {
      model: asked,
      messages: [
        { role: 'system', content: canary(), name: canary() },
        {
          role: 'user',
          content: [
            { type: 'text', text: prompt },
            { type: 'image_url', image_url: { url: `data:image/png;base64,${canary()}` } },
          ],
        },
        {
          role: 'assistant',
          content: null,
          tool_calls: [
            {
              id: call,
              type: 'function',
              function: { name: canary(), arguments: JSON.stringify({ a: canary() }) },
            },
          ],
        },
        { role: 'tool', tool_call_id: call, content: canary() },
      ],
      user: canary(),
      tools: [
        { type: 'function', function: { name: canary(), description: canary(), parameters: { type: 'object' } } },
      ],
    },
    '/ag-ui': {
      threadId: canary(),
      runId: canary(),
      state: { a: canary() },
      messages: [
        { id: canary(), role: 'user', content: canary() },
        { id: canary(), role: 'developer', content: canary() },
      ],
      tools: [{ name: canary(), description: canary(), parameters: { type: 'object' } }],
      context: [{ description: canary(), value: canary() }],
      forwardedProps: { model: asked },
    },
    '/tickets': { principal: canary(), preset: canary(), stream: canary() },
    '/streams/x/tools/y': { decision: canary(), result: canary(), reason: canary() },
  }
}

const chatOf = (asked = model) => ({
  id: canary(),
  model: asked,
  messages: [
    { id: canary(), role: 'system', parts: [{ type: 'text', text: canary() }] },
    {
      id: canary(),
      role: 'user',
      parts: [
        { type: 'text', text: canary() },
        { type: 'data-x', data: canary() },
      ],
    },
  ],
})

/** Headers that clients, proxies and browsers send. */
const headersWithAll = (): Record<string, string> => ({
  cookie: `session=${canary()}`,
  referer: `https://x.test/${canary()}`,
  'user-agent': canary(),
  'x-forwarded-for': canary(),
  'x-forwarded-host': canary(),
  forwarded: `for=${canary()}`,
  'proxy-authorization': `Basic ${canary()}`,
  'anthropic-version': canary(),
  'anthropic-beta': canary(),
  'idempotency-key': canary(),
  'x-request-id': `not an id: ${canary()}`,
  traceparent: canary(),
  baggage: canary(),
  'x-stainless-lang': canary(),
  [`x-${canary()}`]: canary(),
})

let rig: Rig
let others: string
beforeAll(async () => {
  const env = {
    ...lettingIn(alice, bob),
    ANTHROPIC_API_KEY: apiKey,
    SLUICE_PRESETS__HOUSE: JSON.stringify({ model, system: presetSecret }),
  }
  rig = await openRig({ env, logLevel: 'trace' })
  others = await bobsView()
})
afterAll(() => rig.close())

/** All that another client can see, and everybody. */
async function bobsView(): Promise<string> {
  const paths = [
    '/openapi.json',
    '/limits',
    '/v1/models',
    '/healthz',
    '/readyz',
    '/streams/x',
    '/stream',
    '/none',
    '/self-test/abcdefgh',
  ]
  const answers = await Promise.all(
    paths.map((path) => fetchAll(rig.url + path, { headers: { ...bob.bearer, 'x-request-id': 'same' } })),
  )
  return JSON.stringify(answers.map(({ body }) => body))
}

/** Asks as alice, and looks at all that came of it but what she gets herself. */
async function askAll(asks: readonly [path: string, options: RequestOptions][]): Promise<string[]> {
  const from = rig.log.length
  const answers: string[] = []
  for (const [path, options] of asks) {
    const answer = await fetchAll(rig.url + path, { ...options, headers: { ...alice.bearer, ...options.headers } })
    answers.push(`${path} ${answer.status} ${answer.body}`)
    expect(JSON.stringify(answer.headers)).not.toMatch(/CANARYKEY|swordfish/)
    expect(answer.body).not.toMatch(/CANARYKEY|swordfish/)
  }
  const lines = rig.log.slice(from)
  expect(lines.length).toBeGreaterThanOrEqual(asks.length)
  expect(JSON.stringify(lines).match(anyCanary)).toBeNull()
  expect(JSON.stringify(lines)).not.toMatch(/swordfish|slk_|internal error/)
  expect(await bobsView()).toBe(others)
  expect((await fetchAll(`${rig.url}/metrics`)).body).not.toMatch(/CANARY|swordfish|slk_/)
  return answers
}

describe('A17 what is in no log line, and is shown to nobody else', () => {
  it('A17 every field of the Messages API stands in the test', () => {
    const inHeaders = ['model', 'max_tokens', 'stream', 'temperature', 'top_p', 'top_k']
    expect(
      Object.keys(everywhere())
        .filter((field) => field !== 'prompt')
        .sort(),
    ).toEqual(
      Object.keys(messageFields)
        .filter((field) => !inHeaders.includes(field))
        .sort(),
    )
  })

  it('A17 all that bodies hold, on every route, whether it goes well or not', async () => {
    for (const asked of [
      model,
      sim({ error_at: 3, text: 9 }),
      sim({ status: 400, error: 'invalid_request_error' }),
      sim({ status: 401 }),
      sim({ junk_at: 3, text: 9 }),
    ]) {
      const asks = Object.entries({ ...bodies(asked) }).map(([path, body]): [string, RequestOptions] => [
        path,
        { body },
      ])
      const answers = await askAll([...asks, ['/api/chat', { body: chatOf(asked) }]])
      // Else nothing of it had come as far as it can.
      const bad = answers.filter((each) => !/^\S+ 200 /.test(each))
      if (asked === model) expect(bad.map((each) => each.split(' ')[0])).toEqual(['/tickets', '/streams/x/tools/y'])
    }
  })

  it('A17 what is wrong: in the place of each field, a text and an object that do not belong there', async () => {
    for (const [path, body] of Object.entries(bodies())) {
      const asks = Object.keys(body).flatMap((field): [string, RequestOptions][] => [
        [path, { body: { ...body, [field]: canary() } }],
        [path, { body: { ...body, [field]: { [canary()]: canary() } } }],
        [path, { body: { ...body, [field]: [canary(), { type: canary() }] } }],
      ])
      // What stands in `model` and goes well is in its log line, and has to be.
      await askAll(
        asks.filter(([, { body: sent }]) => !/CANARY/.test(JSON.stringify((sent as { model?: unknown }).model ?? ''))),
      )
      expect(
        (
          await askAll([
            [path, { body: canary() }],
            [path, { body: [canary()] }],
          ])
        ).every((each) => / 4\d\d /.test(each)),
      ).toBe(true)
    }
  })

  it('A17 all that headers, queries and paths hold', async () => {
    const good = { prompt: 'hi', model }
    const each = Object.entries(headersWithAll()).map(([name, value]): [string, RequestOptions] => [
      '/stream',
      { body: good, headers: { [name]: value } },
    ])
    const query = (names: string[]) => names.map((name) => `${name}=${canary()}`).join('&')
    await askAll([
      ...each,
      ['/stream', { body: good, headers: { ...headersWithAll(), 'anthropic-version': '2023-06-01' } }],
      ['/stream', { headers: { 'last-event-id': canary() } }],
      ['/stream', { headers: { accept: canary(), 'content-type': canary() }, body: good }],
      [`/stream?prompt=${canary()}&system=${canary()}&key=${canary()}&model=${encodeURIComponent(model)}`, {}],
      [`/stream?${query(['prompt', 'preset', 'format', 'smooth', 'progress', 'max_tokens', canary()])}`, {}],
      [`/streams/${canary()}?${query(['after', 'format', canary()])}`, {}],
      [`/streams/${canary()}`, { method: 'DELETE' }],
      [`/api/chat/${canary()}/stream?${query(['smooth'])}`, {}],
      [`/v1/models/${canary()}?${query(['before_id'])}`, {}],
      [`/self-test?${query(['id', 'frames', canary()])}`, {}],
      [`/self-test/${canary()}`, {}],
      [`/${canary()}?${canary()}=${canary()}`, {}],
      ...Object.keys(formats).map((format): [string, RequestOptions] => [
        `/stream?prompt=${canary()}&format=${format}`,
        {},
      ]),
    ])
  })

  it('A17 what is no request, no key and no JSON', async () => {
    const from = rig.log.length
    const head = `POST /stream HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n`
    const json = `authorization: ${alice.bearer.authorization}\r\ncontent-type: application/json\r\n`
    for (const text of [
      `${canary()}\r\n\r\n`,
      `GET /${canary()} HTTP/9.9\r\n\r\n`,
      `GET /%zz${canary()} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`,
      `${head}authorization: Bearer ${canary()}\r\n\r\n`,
      `${head}x-api-key: ${canary()}\r\n\r\n`,
      `${head}authorization: Basic ${canary()}\r\n\r\n`,
      `${head}${json}content-length: 20\r\n\r\n{"prompt":"${canary()}`.padEnd(20).slice(0, 230),
      `${head}${json}content-length: 12\r\n\r\n"CANARY00XX"`,
      `${head}${json}content-length: 13\r\n\r\n{"CANARY00XX}`,
      `${head}${json}x-long: ${canary().repeat(3_000)}\r\n\r\n`,
    ]) {
      expect(await sendRaw(rig.url, text, (socket) => void socket.end())).not.toMatch(anyCanary)
    }
    expect(JSON.stringify(rig.log.slice(from)).match(anyCanary)).toBeNull()
  })

  it('A17 what tokens and tickets say of their bearer, but for his name', async () => {
    const issuer = await startIssuer()
    const keys = await serve((_, response) => void response.end(JSON.stringify(issuer.jwks)))
    const own = await startRig({
      env: {
        SLUICE_ACCESS__MODE: 'jwt',
        SLUICE_ACCESS__JWT__JWKS_URL: keys,
        SLUICE_ACCESS__JWT__ISSUER: issuerUrl,
        SLUICE_ACCESS__JWT__AUDIENCE: audience,
        SLUICE_ACCESS__JWT__PRESETS_CLAIM: 'presets',
        SLUICE_ACCESS__JWT__LIMITS_CLAIM: 'limits',
      },
      logLevel: 'trace',
    })
    const claims = [
      { email: canary(), jti: canary(), [canary()]: canary(), presets: [canary()] },
      { presets: { [canary()]: canary() } },
      { limits: { [canary()]: canary() } },
      { limits: canary() },
      { sub: `${canary()} with blanks` },
      { iss: canary() },
      { aud: canary() },
      { exp: 1, email: canary() },
      { nbf: 9_999_999_999, email: canary() },
    ]
    for (const each of claims) {
      for (const header of [{}, { kid: canary() }]) {
        const headers = { authorization: `Bearer ${await issuer.token(each, header)}` }
        for (const path of ['/limits', '/stream?prompt=hi']) {
          expect((await fetchAll(own.url + path, { headers })).body).not.toMatch(anyCanary)
        }
        const { ticket = '' } = JSON.parse((await fetchAll(`${own.url}/tickets`, { headers, body: {} })).body)
        expect((await fetchAll(`${own.url}/stream?prompt=hi&ticket=${ticket}`)).body).not.toMatch(anyCanary)
      }
    }
    expect(JSON.stringify(own.log)).not.toMatch(/CANARY|eyJ|slt_/)
  })

  it("A17 what Claude says of a request's content is for whoever sent it, and in no log line", async () => {
    const secret = canary()
    const claude = await serve((_, response) => {
      const error = {
        type: 'invalid_request_error',
        message: `messages.0: "${secret}", ${apiKey} and ${mcpSecret} are wrong`,
      }
      response
        .writeHead(400, { 'content-type': 'application/json', 'x-echo': secret })
        .end(JSON.stringify({ type: 'error', error }))
    })
    const preset = {
      model,
      system: presetSecret,
      mcp_servers: [{ type: 'url', url: 'https://tools.test', name: 'tools', authorization_token: mcpSecret }],
    }
    const own = await startRig({
      env: {
        ...lettingIn(alice),
        ANTHROPIC_API_KEY: apiKey,
        ANTHROPIC_BASE_URL: claude,
        SLUICE_PRESETS__HOUSE: JSON.stringify(preset),
      },
      logLevel: 'trace',
    })
    const headers = alice.bearer
    const messages = [{ role: 'user', content: 'hi' }]
    for (const [path, body] of [
      ['/stream', { prompt: secret, preset: 'house' }],
      ['/v1/messages', { model: 'house', max_tokens: 9, messages }],
      ['/v1/messages/count_tokens', { model: 'house', messages }],
      ['/v1/chat/completions', { model: 'house', messages, stream: true }],
    ] as const) {
      const answer = await fetchAll(own.url + path, { headers, body })
      expect([path, answer.status]).toEqual([path, 400])
      expect(answer.body).not.toMatch(/CANARYKEY|CANARYTOKEN|swordfish/)
    }
    const inBand = await fetchAll(`${own.url}/stream?prompt=hi&preset=house`, { headers })
    expect(inBand.body).toContain('upstream_invalid_request')
    expect(inBand.body).not.toMatch(/CANARY|swordfish/)
    expect((await fetchAll(`${own.url}/stream`, { headers, body: { prompt: secret } })).body).not.toContain('CANARYKEY')
    expect(JSON.stringify(own.log)).not.toMatch(/CANARY|swordfish/)
  })
})
