import { openaiBody } from './snippets-openai.ts'

/** A request as the playground sends it. */
export interface Asking {
  /** Where this Sluice is, without a slash at its end. */
  readonly base: string
  readonly body: Readonly<Record<string, unknown>>
  /** A key has to be sent; it is never written out. */
  readonly needsKey: boolean
}

export const snippetKinds = ['curl', 'fetch', 'EventSource', 'Anthropic SDK', 'OpenAI SDK'] as const
type SnippetKind = (typeof snippetKinds)[number]

/** A program that sends the request. */
export function snippet(kind: SnippetKind, asking: Asking): string {
  return makers[kind](asking)
}

const bearer = ", authorization: 'Bearer YOUR_SLUICE_KEY'"

const makers: Record<SnippetKind, (asking: Asking) => string> = {
  curl: ({ base, body, needsKey }) =>
    [
      `curl -N ${shellQuoted(`${base}/stream`)}`,
      ...(needsKey ? ['-H "authorization: Bearer $SLUICE_KEY"'] : []),
      `-H 'content-type: application/json'`,
      `-d ${shellQuoted(JSON.stringify(body))}`,
    ].join(' \\\n  '),

  fetch: ({ base, body, needsKey }) => `const response = await fetch(${literal(`${base}/stream`)}, {
  method: 'POST',
  headers: { 'content-type': 'application/json'${needsKey ? bearer : ''} },
  body: JSON.stringify(${literal(body, 2)}),
})
for await (const text of response.body.pipeThrough(new TextDecoderStream())) console.log(text)
`,

  EventSource: ({
    base,
    body,
    needsKey,
  }) => `// EventSource can only GET: the question goes ahead, and the answer has a URL.
const asked = await fetch(${literal(`${base}/stream`)}, {
  method: 'POST',
  headers: { 'content-type': 'application/json', accept: 'application/json'${needsKey ? bearer : ''} },
  body: JSON.stringify(${literal(body, 2)}),
})
const { events_url } = await asked.json()
${needsKey ? '// It can send no headers either: where keys are asked for, a ticket goes into the URL; see docs/access.md.\n' : ''}const source = new EventSource(new URL(events_url, ${literal(`${base}/`)}))
source.onmessage = ({ data }) => {
  if (data === '[DONE]') return source.close()
  const frame = JSON.parse(data)
  if (frame.type === 'text') console.log(frame.text)
}
`,

  'Anthropic SDK': ({ base, body, needsKey }) => `import Anthropic from '@anthropic-ai/sdk'

const client = new Anthropic({ baseURL: ${literal(base)}, apiKey: ${needsKey ? "'YOUR_SLUICE_KEY'" : "'unused'"} })
const stream = client.messages.stream(${literal(anthropicBody(body))})
for await (const event of stream) {
  if (event.type === 'content_block_delta' && event.delta.type === 'text_delta') process.stdout.write(event.delta.text)
}
`,

  'OpenAI SDK': ({ base, body, needsKey }) => `import OpenAI from 'openai'

const client = new OpenAI({ baseURL: ${literal(`${base}/v1`)}, apiKey: ${needsKey ? "'YOUR_SLUICE_KEY'" : "'unused'"} })
const stream = await client.chat.completions.create(${literal(openaiBody(body))})
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? '')
`,
}

/** Within single quotes a shell takes everything as it is, but for the quote itself. */
function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}

/** JSON is JavaScript, but for two line ends that older engines refuse within strings. */
function literal(value: unknown, indent = 0): string {
  const text = JSON.stringify(value, null, 2)
  return text
    .replaceAll('\u2028', '\\u2028')
    .replaceAll('\u2029', '\\u2029')
    .replaceAll('\n', `\n${' '.repeat(indent)}`)
}

/** A preset is a model there. */
function anthropicBody({
  preset,
  model,
  max_tokens = 1_024,
  on_disconnect: _,
  smooth: __,
  progress: ___,
  ...rest
}: Asking['body']) {
  return { model: preset ?? model ?? 'MODEL', max_tokens, ...rest }
}
