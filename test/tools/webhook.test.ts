import { createHmac } from 'node:crypto'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { readAnswer } from '../../src/tools/answer.ts'
import { eventually } from '../support/client.ts'
import { serve } from '../support/serve.ts'
import { callTool, openTools, toolOf } from '../support/tools.ts'

interface Received {
  readonly method: string | undefined
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

const input_schema = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] }
const paris = { city: 'Paris' }

/** A webhook and a tool that calls it. */
async function webhookWith(answer: RequestListener, settings: Record<string, unknown> = {}) {
  const received: Received[] = []
  const url = await serve((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (text) => {
      body += text
    })
    request.on('end', () => {
      received.push({ method: request.method, headers: request.headers, body })
      answer(request, response)
    })
  })
  const { toolbox, log } = await openTools({
    weather: { kind: 'webhook', url: `${url}/run`, input_schema, ...settings },
  })
  return { tool: toolOf(toolbox, 'weather'), received, log, url }
}

const send = (response: ServerResponse, body: string | Buffer, headers: Record<string, string> = {}, status = 200) =>
  void response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(body)

const answers =
  (body: string, type = 'application/json', status = 200): RequestListener =>
  (_, response) =>
    send(response, body, { 'content-type': type }, status)

describe('a webhook', () => {
  it('gets the call, signed, and nothing of the caller but a name', async () => {
    const secret = 'a secret of the two'
    const settings = { secret, headers: { 'X-Team': 'weather' }, description: 'Tells the weather.' }
    const { tool, received } = await webhookWith(answers('{"content":"rain"}'), settings)
    expect(tool.definition).toEqual({ name: 'weather', description: 'Tells the weather.', input_schema })
    expect(await callTool(tool, paris, 'toolu_7')).toEqual({ content: 'rain', is_error: false })
    const [{ method, headers, body } = { method: '', headers: {}, body: '' }] = received
    expect(method).toBe('POST')
    const { sent_at, ...rest } = JSON.parse(body)
    expect(rest).toEqual({ id: 'toolu_7', tool: 'weather', input: paris, stream: 'st_1', principal: 'alice' })
    expect(Math.abs(Date.parse(sent_at) - Date.now())).toBeLessThan(10_000)
    const timestamp = String(headers['sluice-timestamp'])
    const hmac = createHmac('sha256', secret).update(`${timestamp}.${body}`).digest('hex')
    expect(headers['sluice-signature']).toBe(`v1=${hmac}`)
    const { host: _, 'content-length': __, ...others } = headers
    expect(others).toEqual({
      accept: 'application/json, application/x-ndjson, text/event-stream',
      'accept-encoding': 'identity',
      connection: 'keep-alive',
      'content-type': 'application/json',
      'idempotency-key': 'toolu_7',
      'sluice-signature': expect.any(String),
      'sluice-timestamp': timestamp,
      'x-team': 'weather',
    })
  })

  it('gets no signature without a secret', async () => {
    const { tool, received } = await webhookWith(answers('1'))
    await callTool(tool, paris)
    expect(received[0]?.headers).not.toHaveProperty('sluice-signature')
    expect(received[0]?.headers).toHaveProperty('sluice-timestamp')
  })

  const image = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
  it.each<[string, string, unknown, boolean]>([
    ['content', '{"content":"rain"}', 'rain', false],
    ['a result', '{"result":{"mm":3}}', '{"mm":3}', false],
    ['a result of null beside content', '{"result":null,"content":"dry"}', 'dry', false],
    ['any other object', '{"mm":3}', '{"mm":3}', false],
    ['a string', '"rain"', 'rain', false],
    ['a number', '3', '3', false],
    ['null', 'null', 'null', false],
    ['a list', '[1,2]', '[1,2]', false],
    ['an error of its own', '{"content":"no such city","is_error":true}', 'no such city', true],
    ['what is no error', '{"content":"rain","is_error":"yes"}', 'rain', false],
    ['half a surrogate', '"\\ud800"', '\ufffd', false],
  ])('may answer %s', async (_, body, content, is_error) => {
    const { tool } = await webhookWith(answers(body))
    expect(await callTool(tool, paris)).toEqual({ content, is_error })
  })

  it('may answer blocks, which are made such that Claude takes them', async () => {
    const content = [
      { type: 'text', text: 'rain', cache_control: { type: 'ephemeral' } },
      { type: 'text', text: '' },
      { type: 'image', source: { type: 'base64', media_type: 'image/jpeg', data: image } },
      { type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'no image' } },
      { type: 'strange', n: 1 },
      'plain',
    ]
    const { tool } = await webhookWith(answers(JSON.stringify({ content })))
    expect((await callTool(tool, paris)).content).toEqual([
      { type: 'text', text: 'rain' },
      { type: 'image', source: { type: 'base64', media_type: 'image/png', data: image } },
      { type: 'text', text: expect.stringContaining('left out') },
      { type: 'text', text: '{"type":"strange","n":1}' },
      { type: 'text', text: 'plain' },
    ])
  })

  it('may have nothing to say', async () => {
    const { tool } = await webhookWith((_, response) => void response.writeHead(204).end())
    expect(await callTool(tool, paris)).toEqual({ content: '', is_error: false })
  })

  it.each([
    ['application/x-ndjson', (value: unknown) => `${JSON.stringify(value)}\n`],
    ['text/event-stream', (value: unknown) => `: note\r\nevent: x\r\ndata: ${JSON.stringify(value)}\r\n\r\n`],
  ])('may tell how far it is in %s, as it goes', async (type, line) => {
    let goOn = () => {}
    const { tool } = await webhookWith((_, response) => {
      response.writeHead(200, { 'content-type': `${type}; charset=utf-8` })
      response.write(line({ progress: 'looking' }))
      response.write(line({ progress: 'found\u0007it' }).slice(0, 9))
      goOn = () => {
        response.write(line({ progress: 'found\u0007it' }).slice(9))
        // It need not end for its answer to be taken.
        response.write(line({ content: 'rain' }))
      }
    })
    const call = callTool(tool, paris)
    await eventually(() => call.progress.length > 0)
    expect(call.progress).toEqual(['looking'])
    goOn()
    expect(await call).toEqual({ content: 'rain', is_error: false })
    expect(call.progress).toEqual(['looking', 'found it'])
  })

  it('may end such a stream without a line break, but not without an answer', async () => {
    const lines = ['{"progress":"x"}\n{"content":"rain"}', '{"progress":"x"}\n', '']
    const [whole, ...others] = await Promise.all(
      lines.map(async (body) => callTool((await webhookWith(answers(body, 'application/x-ndjson'))).tool, paris)),
    )
    expect(whole).toEqual({ content: 'rain', is_error: false })
    for (const each of others)
      expect(each).toMatchObject({ is_error: true, content: expect.stringContaining('cut off') })
  })

  it('is held to the schema of its answers, but not when it tells of an error', async () => {
    const output_schema = { type: 'object', properties: { mm: { type: 'number' } }, required: ['mm'] }
    const bodies = ['{"result":{"mm":3}}', '{"result":{"mm":"3"}}', '{"content":"no","is_error":true}']
    const [good, bad, error] = await Promise.all(
      bodies.map(async (body) => callTool((await webhookWith(answers(body), { output_schema })).tool, paris)),
    )
    expect(good).toEqual({ content: '{"mm":3}', is_error: false })
    expect(bad).toMatchObject({ is_error: true, content: expect.stringContaining('schema') })
    expect(error).toEqual({ content: 'no', is_error: true })
  })
})

describe('what goes wrong at a webhook', () => {
  const secret = 'CANARY-of-a-body'
  it.each<[string, string, RequestListener, Record<string, unknown>?]>([
    ['not_json', 'a body that is no JSON', answers(`${secret}{`)],
    ['not_json', 'one that is no UTF-8', (_, response) => send(response, Buffer.from([34, 0xff, 34]))],
    ['not_json', 'an empty one', answers('')],
    ['content_type', 'another content type', answers(`"${secret}"`, 'text/html')],
    ['content_type', 'none at all', (_, response) => void response.writeHead(200).end('"x"')],
    [
      'encoding',
      'a compressed body',
      (_, response) => send(response, gzipSync(Buffer.alloc(50_000_000)), { 'content-encoding': 'gzip' }),
    ],
    ['too_large', 'a long body', answers(JSON.stringify('x'.repeat(2_000))), { max_bytes: 1_024 }],
    ['too_large', 'a long line', answers(JSON.stringify('x'.repeat(2_000)), 'text/event-stream'), { max_bytes: 1_024 }],
    [
      'cut_off',
      'a connection that is lost',
      (_, response) => {
        response.writeHead(200, { 'content-type': 'application/json', 'content-length': 100 }).write('{"content":')
        setImmediate(() => response.destroy())
      },
    ],
    ['unreachable', 'a connection that is lost at once', (request) => void request.socket.destroy()],
    ['timeout', 'no answer', () => {}, { timeout_ms: 60 }],
    [
      'timeout',
      'one that drips',
      (_, response) => {
        response.writeHead(200, { 'content-type': 'application/json' })
        const timer = setInterval(() => response.write(' '), 10)
        response.on('close', () => clearInterval(timer))
      },
      { timeout_ms: 80 },
    ],
    ['redirect', 'a redirect', (_, response) => send(response, secret, { location: 'http://127.0.0.1:1/' }, 302)],
    ['status', 'an error', answers('the database is \u0000down', 'text/plain', 503)],
  ])('is told in a sentence, and logged as %s: %s', async (reason, _, listener, settings) => {
    const { tool, log } = await webhookWith(listener, settings)
    const { content, is_error } = await callTool(tool, paris)
    expect(is_error).toBe(true)
    expect(content).toMatch(/^The tool.*[.a-z]$/)
    expect(content).not.toContain(secret)
    expect(log.lines).toEqual([
      expect.objectContaining({ tool: 'weather', stream: 'st_1', reason, message: 'tool call failed' }),
    ])
    expect(JSON.stringify(log.lines)).not.toMatch(/CANARY|database|Paris/)
  })

  it('includes a little of what an error says, and no more of it is read', async () => {
    let written = 0
    const { tool } = await webhookWith((_, response) => {
      response.writeHead(500, { 'content-type': 'text/plain' })
      response.write('no more\nroom. ')
      const flood = () => {
        while (!response.destroyed && response.write('x'.repeat(10_000))) written += 10_000
      }
      response.on('drain', flood)
      flood()
    })
    const { content } = await callTool(tool, paris)
    expect(content).toMatch(/^The tool answered with an error. It said: no more room. x+…$/)
    expect((content as string).length).toBeLessThan(400)
    expect(written).toBeLessThan(20_000_000)
  })

  it('follows no redirect', async () => {
    let visited = 0
    const other = await serve((_, response) => {
      visited++
      response.end()
    })
    for (const status of [301, 302, 303, 307, 308]) {
      const { tool } = await webhookWith((_, response) => send(response, '', { location: other }, status))
      expect(await callTool(tool, paris)).toMatchObject({ is_error: true })
    }
    expect(visited).toBe(0)
  })

  it('takes no more memory than an answer may have, however much comes', async () => {
    const chunk = Buffer.alloc(65_536, 120)
    let closed = 0
    const { tool } = await webhookWith((_, response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      const flood = () => {
        while (!response.destroyed && response.write(chunk));
      }
      response.on('drain', flood).on('close', () => closed++)
      flood()
    })
    const calls = Array.from({ length: 40 }, () => callTool(tool, paris).outcome)
    globalThis.gc?.()
    const before = process.memoryUsage().rss
    for (const outcome of await Promise.all(calls)) expect(outcome).toMatchObject({ is_error: true })
    await eventually(() => closed === 40)
    globalThis.gc?.()
    expect(process.memoryUsage().rss - before).toBeLessThan(100 * 1024 * 1024)
  })

  it('is told when nobody is there, or the address is not allowed', async () => {
    const { tool, log } = await webhookWith(answers('1'), { url: 'http://127.0.0.1:1/' })
    expect(await callTool(tool, paris)).toMatchObject({ is_error: true })
    expect(log.lines[0]).toMatchObject({ reason: 'unreachable', detail: 'ECONNREFUSED' })
    const settings = { kind: 'webhook', url: 'https://tool.example', input_schema }
    const other = await openTools({ weather: settings }, async () => ['169.254.169.254'])
    const { content } = await callTool(toolOf(other.toolbox, 'weather'), paris)
    expect(content).toBe('The tool cannot be reached.')
    expect(other.log.lines[0]).toMatchObject({ reason: 'refused_address', detail: 'metadata' })
  })

  it('ends with the call, whose reason is thrown', async () => {
    let closed = false
    const { tool, received, log } = await webhookWith((_, response) => {
      response.on('close', () => {
        closed = true
      })
    })
    const call = callTool(tool, paris)
    await eventually(() => received.length === 1)
    const reason = new Error('nobody listens')
    call.abort(reason)
    await expect(call.outcome).rejects.toBe(reason)
    await eventually(() => closed)
    expect(log.lines).toEqual([])
  })
})

it('an answer in very many pieces takes no longer than its length', async () => {
  async function* pieces() {
    yield Buffer.from('{"progress":"1"}\r')
    yield Buffer.from('\n"')
    for (let n = 0; n < 150_000; n++) yield Buffer.from('x')
    yield Buffer.from('"')
  }
  const progress: string[] = []
  const began = performance.now()
  const outcome = await readAnswer(
    { status: 200, headers: { 'content-type': 'application/x-ndjson' }, body: pieces() },
    { maxBytes: 1_000_000, checkOutput: undefined, onProgress: (line) => void progress.push(line) },
  )
  expect([outcome.content.length, progress]).toEqual([150_000, ['1']])
  expect(performance.now() - began).toBeLessThan(2_000)
})
