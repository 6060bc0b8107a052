import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { Config } from '../config.ts'
import { toolSettings } from '../tools/settings.ts'

/** How long a tool pretends to be at work. */
const workMs = 400

/** The demo's tools, which are webhooks in this process, and a preset of the same name for each, in which Claude calls it. */
export async function openDemoTools(): Promise<Pick<Config, 'tools' | 'presets'>> {
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy())
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  // It is there for as long as the rest is.
  server.unref()
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const tools = toolSettings.parse({
    weather: webhook(`${url}/weather`, 'The weather of a place, now and in the next days.', {}),
    postcard: webhook(`${url}/postcard`, 'Sends a postcard from a place.', { approval: 'required' }),
  })
  const presets = Object.fromEntries(Object.keys(tools).map((name) => [name, presetOf(name)]))
  return { tools, presets }
}

function webhook(url: string, description: string, more: object): object {
  const properties = { location: { type: 'string' }, unit: { type: 'string' }, days: { type: 'integer' } }
  const input_schema = { type: 'object', properties, required: ['location'] }
  return { kind: 'webhook', url, description, input_schema, allow_private: ['127.0.0.0/8'], ...more }
}

/** Some text, the call, and some more text with what the tool has answered. */
function presetOf(tool: string): Config['presets'][string] {
  return {
    description: `Calls the tool ${tool}, which Sluice runs`,
    model: `claude-sim?tool=${tool}&steps=1&text=13`,
    tools: [tool],
    allow: [],
  }
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  let body = ''
  for await (const chunk of request) body += chunk
  const { tool, input } = JSON.parse(body)
  response.setHeader('content-type', 'application/x-ndjson')
  const say = (value: object) => response.write(`${JSON.stringify(value)}\n`)
  say({ progress: tool === 'weather' ? `Asking the station in ${input.location}` : 'Looking for a stamp' })
  await delay(workMs)
  say({
    content:
      tool === 'weather'
        ? `${input.location}: sunny, 21 °C, no rain.`
        : `A postcard from ${input.location} is on its way.`,
  })
  response.end()
}
