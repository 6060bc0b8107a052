import type { IncomingMessage, ServerResponse } from 'node:http'
import { expect, it, onTestFinished } from 'vitest'
import { type Frame, type Reconnect, resume, stream } from '../../src/client/stream.ts'
import { serve } from '../support/serve.ts'

const id = 's_AAAAAAAAAAAAAAAAAAAAAA'
const head = { 'content-type': 'text/event-stream', 'x-stream-id': id }
const usage = { input_tokens: 1, output_tokens: 1 }

const frames: Record<number, object> = {
  1: { type: 'start', stream: id, model: 'm', format_version: 1 },
  2: { type: 'message', id: 'msg', model: 'm', usage },
  3: { type: 'text', block: 0, text: 'one ' },
  4: { type: 'text', block: 0, text: 'two' },
  5: { type: 'done', stop_reason: 'end_turn', usage },
}
const wire = (...numbers: number[]) =>
  numbers.map((n) => `id: ${id}.${n}\ndata: ${JSON.stringify(frames[n])}\n\n`).join('')
const done = 'data: [DONE]\n\n'

type Answer = (response: ServerResponse, request: IncomingMessage) => void
const say =
  (text: string, end = true): Answer =>
  (response) => {
    response.writeHead(200, head)
    if (text !== '') response.write(text)
    if (end) response.end()
  }
const refuse =
  (status: number, body = ''): Answer =>
  (response) =>
    response.writeHead(status, { 'content-type': 'application/json' }).end(body)

/** A server that gives these answers in turn, and what it was asked. */
async function script(...answers: Answer[]) {
  const asked: { method: string; url: string; headers: IncomingMessage['headers']; body: string }[] = []
  const base = await serve(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const { method = '', url = '', headers } = request
    asked.push({ method, url, headers, body })
    const answer = answers.shift()
    if (answer) answer(response, request)
    else response.destroy()
  })
  return { url: `${base}/stream`, asked }
}

const soon = { retry: { minMs: 1, maxMs: 20 } }
const question = { prompt: 'hello' }

async function allOf(each: AsyncIterable<Frame>): Promise<string[]> {
  const all: string[] = []
  for await (const frame of each) all.push(frame.type)
  return all
}
const whole = ['start', 'message', 'text', 'text', 'done']

it('sends the same question under the same key until a frame has come', async () => {
  const { url, asked } = await script(
    (response) => response.destroy(),
    say(''),
    refuse(503),
    say(': heartbeat\n\n'),
    say(wire(1, 2, 3, 4, 5) + done),
  )
  expect(await allOf(stream(url, question, soon))).toEqual(whole)
  expect(asked.map(({ method }) => method)).toEqual(['POST', 'POST', 'POST', 'POST', 'POST'])
  expect(new Set(asked.map(({ headers, body }) => `${headers['idempotency-key']} ${body}`)).size).toBe(1)
  expect(asked[0]?.headers['idempotency-key']).toMatch(/^[0-9a-f]{32}$/)
})

it('goes on behind the last frame, and drops what it has already', async () => {
  const { url, asked } = await script(
    say(wire(1, 2)),
    (response) => {
      response.writeHead(200, head).write(`${wire(2, 3)}id: ${id}.4\ndata: {"type":"te`)
      setTimeout(() => response.destroy(), 20)
    },
    say(wire(1, 2, 3, 4, 5) + done),
  )
  const answer = stream(url, question, soon)
  expect(await allOf(answer)).toEqual(whole)
  expect(await answer.text).toBe('one two')
  expect(asked.map(({ method, url }) => `${method} ${url}`)).toEqual([
    'POST /stream',
    `GET /streams/${id}`,
    `GET /streams/${id}`,
  ])
  expect(asked.map(({ headers }) => headers['last-event-id'])).toEqual([undefined, `${id}.2`, `${id}.3`])
  expect(asked[1]?.headers).toMatchObject({ accept: 'text/event-stream' })
  expect(asked[1]?.headers).not.toHaveProperty('idempotency-key')
})

it('never passes over a frame', async () => {
  const { url } = await script(say(wire(1, 2, 4)), say(wire(3, 4, 5)))
  expect(await allOf(stream(url, question, soon))).toEqual(whole)
})

it('takes an end without a terminal frame for a lost connection, whatever it looks like', async () => {
  const { url, asked } = await script(say(wire(1, 2, 3) + done), say(wire(4, 5)))
  expect(await allOf(stream(url, question, soon))).toEqual(whole)
  expect(asked).toHaveLength(2)
})

it('comes back when the server says, after a clean end as well', async () => {
  const lost: Reconnect[] = []
  const { url } = await script(say(`${wire(1)}retry: 15\n\n`), say('retry: 17\n\n'), say(wire(2, 3, 4, 5)))
  const options = { retry: { minMs: 5_000 }, onReconnect: (event: Reconnect) => void lost.push(event) }
  expect(await allOf(stream(url, question, options))).toEqual(whole)
  expect(lost.map(({ attempt, delayMs }) => [attempt, delayMs])).toEqual([
    [1, 15],
    [2, 34],
  ])
})

it('comes back from an error that is the server’s alone and not the stream’s', async () => {
  const error = { code: 'shutting_down', message: 'Later.', retryable: true }
  const alone = (error: object) =>
    `data: ${JSON.stringify({ type: 'error', error, partial: true, usage, timing: {} })}\n\n${done}`
  const { url } = await script(say(wire(1, 2, 3) + alone(error)), say(wire(4, 5)))
  expect(await allOf(stream(url, question, soon))).toEqual(whole)

  const lost = { code: 'resume_unavailable', message: 'Gone.', retryable: false }
  const other = await script(say(wire(1, 2, 3) + alone(lost)))
  const answer = stream(other.url, question, soon)
  expect(await allOf(answer)).toEqual(['start', 'message', 'text', 'error'])
  await expect(answer.text).rejects.toMatchObject({ code: 'resume_unavailable', partial: true })
  expect(other.asked).toHaveLength(1)
})

it('gives up where the server has lost the stream', async () => {
  const gone = JSON.stringify({ error: { code: 'resume_unavailable', message: 'Gone.', retryable: false } })
  const { url, asked } = await script(say(wire(1, 2, 3)), refuse(410, gone))
  const answer = stream(url, question, soon)
  const expected = { code: 'resume_unavailable', status: 410, partial: true, retryable: false }
  await expect(allOf(answer)).rejects.toMatchObject(expected)
  await expect(answer.usage).rejects.toMatchObject(expected)
  expect(asked).toHaveLength(2)
})

it('gives up after so many lost connections in a row, and says what happened', async () => {
  const { url, asked } = await script(say(wire(1)), refuse(502), say(wire(2)))
  const answer = stream(url, question, { retry: { ...soon.retry, attempts: 4 } })
  await expect(allOf(answer)).rejects.toMatchObject({
    code: 'connection_lost',
    retryable: true,
    cause: expect.any(Error),
  })
  // Each frame makes a new beginning.
  expect(asked).toHaveLength(3 + 4)
})

it('does not take any page for an answer', async () => {
  const page: Answer = (response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<p>Welcome')
  const cutHead: Answer = (response) => response.writeHead(200).end()
  const first = await script(page, cutHead, page, page, page)
  await expect(stream(first.url, question, soon).text).rejects.toMatchObject({ code: 'not_sluice', status: 200 })
  expect(first.asked).toHaveLength(4)
  const { url } = await script(say(wire(1, 2)), page, say(wire(3, 4, 5)))
  expect(await stream(url, question, soon).text).toBe('one two')
})

it('takes a connection that says nothing for lost, also before its head', async () => {
  const { url, asked } = await script(() => {}, say(wire(1, 2, 3), false), say(wire(4, 5)))
  const began = performance.now()
  expect(await allOf(stream(url, question, { ...soon, silenceMs: 80 }))).toEqual(whole)
  expect(performance.now() - began).toBeGreaterThan(150)
  expect(asked).toHaveLength(3)
})

it('is content with heartbeats', async () => {
  const { url, asked } = await script((response) => {
    response.writeHead(200, head).write(wire(1, 2))
    const beats = setInterval(() => response.write(': heartbeat\n\n'), 20)
    setTimeout(() => {
      clearInterval(beats)
      response.end(wire(3, 4, 5) + done)
    }, 200)
  })
  expect(await allOf(stream(url, question, { ...soon, silenceMs: 100 }))).toEqual(whole)
  expect(asked).toHaveLength(1)
})

it('reads no faster than frames are taken', async () => {
  let pulled = 0
  const body = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        pulled++
        const text = { type: 'text', block: 0, text: 'x' }
        controller.enqueue(new TextEncoder().encode(`id: ${id}.${pulled}\ndata: ${JSON.stringify(text)}\n\n`))
      },
    },
    { highWaterMark: 0 },
  )
  const answer = stream('http://127.0.0.1/stream', question, {
    fetch: async () => new Response(body, { headers: head }),
  })
  const each = answer[Symbol.asyncIterator]()
  for (let n = 0; n < 100; n++) await each.next()
  await new Promise((resolve) => setTimeout(resolve, 20))
  expect(pulled).toBe(100)
  await each.return?.()
})

it('bothers nobody with failures that nobody asked about', async () => {
  const unhandled: unknown[] = []
  const listen = (reason: unknown) => void unhandled.push(reason)
  process.on('unhandledRejection', listen)
  onTestFinished(() => void process.off('unhandledRejection', listen))
  const { url } = await script(refuse(400), refuse(500), refuse(500))
  const answer = stream(url, question)
  await expect(allOf(answer)).rejects.toMatchObject({ code: 'not_sluice', status: 400 })
  void stream(url, question).abort()
  const alone = stream(url, question)
  void alone.text
  alone.close()
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(unhandled).toEqual([])
})

it('sends a fresh token each time, and takes a token that cannot be had for a lost network', async () => {
  const { url, asked } = await script(say(wire(1, 2)), say(wire(3, 4, 5)))
  let tokens = 0
  const headers = async () => {
    if (++tokens === 2) throw new Error('no network')
    return { Authorization: `Bearer ${tokens}` }
  }
  expect(await stream(url, question, { ...soon, headers }).text).toBe('one two')
  expect(asked.map(({ headers }) => headers.authorization)).toEqual(['Bearer 1', 'Bearer 3'])
})

it('derives the other URLs from the one it is given', async () => {
  const asked: string[] = []
  const watching = async (url: unknown) => {
    asked.push(String(url))
    return new Response(null, { status: 204 })
  }
  const options = { fetch: watching as typeof fetch }
  for (const url of ['http://h/stream', 'http://h:1/a/sluice/stream/', 'http://h/x/api/chat', 'http://h/stream?v=1']) {
    await resume(url, id, options).text.catch(() => {})
  }
  await resume('http://h/stream', id, { ...options, smooth: 'word', after: 3 }).text.catch(() => {})
  expect(asked).toEqual([
    `http://h/streams/${id}`,
    `http://h:1/a/sluice/streams/${id}`,
    `http://h/x/streams/${id}`,
    `http://h/streams/${id}`,
    `http://h/streams/${id}?smooth=word`,
  ])
  expect(() => resume('http://h/', id)).toThrow('must end in /stream or /api/chat')
  // Relative to what? Here is no page.
  expect(() => stream('/stream', question)).toThrow(TypeError)
})
