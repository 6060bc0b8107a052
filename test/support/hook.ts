import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { portOf } from './relay.ts'

/** A call as a webhook gets it. */
export interface HookCall {
  readonly id: string
  readonly tool: string
  readonly input: Record<string, unknown>
  readonly stream: string
  readonly principal: string
  readonly headers: IncomingMessage['headers']
  /** As it came. */
  readonly body: string
  /** Sluice has hung up before there was an answer. */
  hungUp: boolean
}

export type HookAnswer = (call: HookCall, response: ServerResponse) => unknown

export interface Hook extends AsyncDisposable {
  readonly url: string
  readonly calls: HookCall[]
  of(tool: string): HookCall[]
}

/** A server of webhooks, told apart by their path; the caller closes it. Unless told otherwise one says its name and a number. */
export async function serveHook(answers: Readonly<Record<string, HookAnswer>>): Promise<Hook> {
  const calls: HookCall[] = []
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const call: HookCall = { ...JSON.parse(body), headers: request.headers, body, hungUp: false }
    calls.push(call)
    response.on('close', () => {
      call.hungUp = !response.writableFinished
    })
    const nth = calls.filter(({ tool }) => tool === call.tool).length
    const answer = answers[String(request.url).slice(1)] ?? answerJson({ content: `${call.tool} ${nth}` })
    await answer(call, response)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return {
    url: `http://127.0.0.1:${portOf(server)}`,
    calls,
    of: (tool) => calls.filter((call) => call.tool === tool),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
    },
  }
}

export function answerJson(value: unknown): HookAnswer {
  return (_, response) => response.setHeader('content-type', 'application/json').end(JSON.stringify(value))
}

/** A webhook of that server, as the settings have it. */
export function hookTool(url: string, name: string, more: object = {}): object {
  return {
    kind: 'webhook',
    url: `${url}/${name}`,
    description: `The tool ${name}`,
    input_schema: { type: 'object' },
    allow_private: ['127.0.0.0/8'],
    ...more,
  }
}

/** Settings with these tools, and a preset `tools` that offers what `offered` names and leaves the rest to the client. */
export function toolEnv(tools: Readonly<Record<string, object>>, offered = Object.keys(tools)): Record<string, string> {
  const named = Object.entries(tools).map(([name, tool]) => [
    `SLUICE_TOOLS__${name.toUpperCase()}`,
    JSON.stringify(tool),
  ])
  const preset = { tools: offered, allow: ['model', 'max_tokens', 'tools'] }
  return { ...Object.fromEntries(named), SLUICE_PRESETS__TOOLS: JSON.stringify(preset) }
}
