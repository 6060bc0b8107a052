import Anthropic from '@anthropic-ai/sdk'
import Fastify from 'fastify'

/**
 * What everybody writes first: the SDK's stream in a loop with a `write` in it. Nothing can be resumed, nothing is
 * retried, nothing is bounded; that a reader has gone is noticed, which is more than most of these do.
 */
const claude = new Anthropic({ apiKey: 'bench', baseURL: process.env['UPSTREAM'] ?? 'http://127.0.0.1:8788' })
const app = Fastify()

app.post<{ Body: Anthropic.MessageCreateParamsNonStreaming }>('/chat', async ({ body }, reply) => {
  const gone = new AbortController()
  reply.hijack()
  const response = reply.raw
  response.on('close', () => gone.abort())
  try {
    const stream = await claude.messages.create({ ...body, stream: true }, { signal: gone.signal })
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
    for await (const event of stream) {
      if (event.type === 'content_block_delta' && event.delta.type === 'text_delta') {
        response.write(`data: ${JSON.stringify({ type: 'text', text: event.delta.text })}\n\n`)
      }
    }
    response.end('data: [DONE]\n\n')
  } catch {
    if (response.headersSent) response.destroy()
    else response.writeHead(502).end()
  }
})

await app.listen({ port: Number(process.env['PORT']), host: '127.0.0.1', backlog: 4096 })
