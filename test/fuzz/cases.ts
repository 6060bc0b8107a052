import type { Random } from '../support/random.ts'

/** What is sent on one connection. */
export interface Case {
  readonly bytes: Buffer
  /** Sent in two pieces, with a moment between them. */
  readonly split: number | undefined
  /** What the client does when it has sent them: waits for the answer, ends its side, or is gone. */
  readonly after: 'waits' | 'ends' | 'vanishes'
}

export interface Knowledge {
  /** Prompts and systems begin with it: no log line may hold it. */
  readonly canary: string
  /** A key that is valid. */
  readonly key: string
  /** Ids of streams, of the client and of another. */
  readonly streams: readonly string[]
}

const turn = (text: string) => ({ role: 'user', content: text })

/** A body for each route that takes one. */
function bodies(canary: string): Record<string, readonly object[]> {
  const text = `${canary} hello`
  return {
    '/stream': [
      { prompt: text, format: 'text' },
      { prompt: text, system: text, model: 'claude-sim?text=2', max_tokens: 9, progress: true, smooth: 'word' },
      {
        messages: [turn(text), { role: 'assistant', content: [{ type: 'text', text }] }, turn(text)],
        on_disconnect: 'cancel',
      },
    ],
    '/api/chat': [
      { prompt: text },
      {
        id: 'chat-1',
        messages: [{ id: 'm', role: 'user', parts: [{ type: 'text', text }] }],
        trigger: 'submit-message',
      },
    ],
    '/v1/messages': [
      { model: 'claude-sim', max_tokens: 9, stream: true, messages: [turn(text)], system: [{ type: 'text', text }] },
      {
        model: 'claude-sim',
        max_tokens: 9,
        messages: [turn(text)],
        tools: [{ name: 't', input_schema: { type: 'object' } }],
      },
    ],
    '/v1/messages/count_tokens': [{ model: 'claude-sim', messages: [turn(text)] }],
    '/v1/chat/completions': [
      { model: 'claude-sim', stream: true, messages: [{ role: 'system', content: text }, turn(text)], stop: ['x'] },
      {
        model: 'claude-sim',
        messages: [turn(text)],
        tools: [{ type: 'function', function: { name: 'f', parameters: {} } }],
      },
    ],
    '/ag-ui': [
      {
        threadId: 't',
        runId: 'r',
        state: {},
        messages: [{ id: 'm', role: 'user', content: text }],
        tools: [],
        context: [],
        forwardedProps: {},
      },
    ],
  }
}

const odd: readonly unknown[] = [
  ...[
    null,
    true,
    false,
    0,
    -1,
    1e308,
    2 ** 53,
    0.1,
    '',
    'x',
    '\0',
    '\r\n',
    '\ud800',
    '\u2028',
    '😀',
    '../../etc/passwd',
    '__proto__',
  ],
  ...[
    'constructor',
    'toString',
    'x'.repeat(5_000),
    [],
    {},
    [[]],
    [null],
    { a: { b: { c: 1 } } },
    { length: 1e9 },
    { toString: 1 },
  ],
  ...[
    'claude-sim?status=500',
    'claude-sim?error_at=1',
    'claude-sim?reset_at=1',
    'claude-sim?junk_at=1',
    'claude-sim?text=0',
  ],
]

const oddKeys = [
  '__proto__',
  'constructor',
  'prototype',
  'hasOwnProperty',
  'toString',
  'valueOf',
  '',
  'a b',
  'api_base',
  '\0',
  '0',
  'then',
]

/** The same tree with something else somewhere in it. Entries keep `__proto__` a key like any other. */
function mutate(value: unknown, random: Random): unknown {
  if (random.chance(0.2)) return random.pick(odd)
  if (Array.isArray(value)) {
    const list = [...value]
    if (list.length === 0 || random.chance(0.2)) list.push(random.pick(odd))
    else if (random.chance(0.1)) return Array.from({ length: random.between(1, 300) }, () => list[0])
    else {
      const at = random.between(0, list.length - 1)
      list[at] = mutate(list[at], random)
    }
    return list
  }
  if (typeof value !== 'object' || value === null) return random.pick(odd)
  const entries = Object.entries(value)
  if (entries.length === 0 || random.chance(0.2)) entries.push([random.pick(oddKeys), random.pick(odd)])
  else if (random.next() < 0.2) entries.splice(random.between(0, entries.length - 1), 1)
  else {
    const entry = random.pick(entries)
    entry[1] = mutate(entry[1], random)
  }
  const result = {}
  for (const [key, each] of entries)
    Object.defineProperty(result, key, { value: each, enumerable: true, configurable: true, writable: true })
  return result
}

function spoil(bytes: Buffer, random: Random): Buffer {
  const at = random.between(0, Math.max(0, bytes.length - 1))
  const [before, after] = [bytes.subarray(0, at), bytes.subarray(at)]
  switch (random.between(0, 4)) {
    case 0:
      return before
    case 1:
      return Buffer.concat([before, Buffer.from([random.between(0, 255)]), after.subarray(1)])
    case 2:
      return Buffer.concat([
        before,
        Buffer.from(random.pick(['\r\n', '\n', '\0', ':', '{', '"', '\\', '\xff', ' '])),
        after,
      ])
    case 3:
      return Buffer.concat([before, after.subarray(0, 20), after])
    default:
      return Buffer.concat([before, after.subarray(Math.min(after.length, random.between(1, 20)))])
  }
}

const methods = [
  'GET',
  'POST',
  'DELETE',
  'HEAD',
  'OPTIONS',
  'PUT',
  'PATCH',
  'TRACE',
  'CONNECT',
  'PROPFIND',
  'get',
  'X',
  '',
]
const queries = [
  'prompt=hi',
  'format=text',
  'format=xml',
  'model=claude-sim',
  'smooth=word',
  'after=1',
  'after=-1',
  'after=1e9',
  'key=k1',
  'key=%0d%0a',
  'progress=true',
  'max_tokens=5',
  'prompt=%ff',
  '__proto__=1',
  'a[b]=c',
  '%',
  '=',
  '&&',
]

function headerLines(random: Random, { key, streams }: Knowledge): string[] {
  const position = `${random.pick(streams)}.${random.pick(['0', '1', '2', '3', '99', '-1', 'x', '1.1', ''])}`
  const all = [
    `x-api-key: ${key}x`,
    'authorization: Bearer ',
    'authorization: Basic eDp5',
    `last-event-id: ${position}`,
    'last-event-id: \x01',
    `idempotency-key: k${random.between(1, 50)}`,
    'idempotency-key: a b',
    `x-request-id: ${random.pick(['ok', 'x'.repeat(100), '\x01', '%0d%0a'])}`,
    `accept: ${random.pick(['application/json', 'text/event-stream', '*/*', '', 'text/html;q=x'])}`,
    `origin: ${random.pick(['null', 'https://app.example.com', 'https://evil.test'])}`,
    `sec-fetch-site: ${random.pick(['cross-site', 'same-site', 'same-origin', 'none', 'x'])}`,
    `content-encoding: ${random.pick(['gzip', 'identity', 'br'])}`,
    'expect: 100-continue',
    'upgrade: websocket',
    'upgrade: h2c',
    'connection: upgrade',
    'transfer-encoding: chunked',
    `anthropic-beta: ${random.pick(['a,b', '\x80', ',', 'x'.repeat(5_000)])}`,
    `anthropic-version: ${random.pick(['2023-06-01', 'x', ''])}`,
    `x-forwarded-for: ${random.pick(['1.2.3.4', '::', 'x', ',,,', '1.2.3.4, 127.0.0.1'])}`,
    `cookie: ${'a=b; '.repeat(random.between(1, 200))}`,
    `accept-version: ${random.pick(['1.x', '*', '><'])}`,
    `range: bytes=0-1`,
    `x: ${'y'.repeat(random.between(0, 20_000))}`,
    `host: evil.test`,
    ': empty',
    'no colon',
    ' folded: x',
  ]
  return Array.from({ length: random.pick([0, 0, 0, 1, 1, 2, 4]) }, () => random.pick(all))
}

function targetOf(random: Random, path: string, { streams }: Knowledge): string {
  const paths = [
    path,
    path,
    '/stream',
    `/streams/${random.pick(streams)}`,
    `/api/chat/${random.pick(['chat-1', 'x', '%00', '__proto__'])}/stream`,
    ...[
      '/v1/models',
      '/v1/models/x',
      '/v1/models/..',
      '/healthz',
      '/readyz',
      '/openapi.json',
      '/limits',
      '/tickets',
      '/self-test?id=abcdefgh&frames=1&interval_ms=5',
      '/self-test/abcdefgh',
      '/',
      '*',
      '//',
      '/streams/',
      '/%ff',
      '/streams/%2e%2e',
      'http://evil.test/stream',
      '',
    ],
  ]
  const query = Array.from({ length: random.pick([0, 0, 1, 2, 4]) }, () => random.pick(queries)).join('&')
  return random.pick(paths) + (query && `?${query}`)
}

/** One request, from one that is right to one that is none. */
export function makeCase(random: Random, known: Knowledge): Case {
  const [path, choices] = random.pick(Object.entries(bodies(known.canary)))
  const wild = random.chance(0.5)
  const tree = random.chance(0.8) ? mutate(random.pick(choices), random) : random.pick(choices)
  let body: Buffer = Buffer.from(JSON.stringify(tree) ?? '')
  if (random.chance(0.15)) body = spoil(body, random)
  const method = wild ? random.pick(methods) : 'POST'
  const target = wild ? targetOf(random, path, known) : path
  const length = random.chance(0.03) ? body.length + random.between(-5, 5) : body.length
  const isChunked = random.chance(0.05)
  const lines = [
    `${method} ${target} HTTP/1.1`,
    ...(random.chance(0.99) ? ['host: localhost'] : []),
    ...(random.chance(0.93) ? [`authorization: Bearer ${known.key}`] : []),
    `content-type: ${random.chance(0.95) ? 'application/json' : random.pick(['text/plain', 'application/json; charset=latin1', 'x', ''])}`,
    isChunked ? 'transfer-encoding: chunked' : `content-length: ${length}`,
    'connection: close',
    ...headerLines(random, known),
  ]
  const payload = isChunked
    ? Buffer.concat([Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from('\r\n0\r\n\r\n')])
    : body
  let bytes: Buffer = Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), payload])
  if (random.chance(0.05)) bytes = spoil(bytes, random)
  return {
    bytes,
    split: random.chance(0.1) ? random.between(0, bytes.length) : undefined,
    after: random.chance(0.9) ? 'waits' : random.pick(['ends', 'vanishes'] as const),
  }
}
