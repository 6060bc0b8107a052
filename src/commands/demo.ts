import { type Config, loadSingleConfig } from '../config.ts'
import { createLogger } from '../telemetry/logger.ts'
import { type Command, noWords, print } from './command.ts'
import { stopOnSignals } from './signals.ts'

export const demo: Command = {
  name: 'demo',
  summary: 'the server in front of a simulated Claude; needs nothing',
  examples: [['PORT=8080 sluice demo', 'on another port']],
  async run(args) {
    noWords(args)
    const config = loadSingleConfig()
    const { mode } = config.access
    const { app, simulator } = await startDemo(config)
    stopOnSignals(app, () => simulator.close())
    print(`
Sluice is listening on ${app.url}, with a simulated Claude behind it (${simulator.url}).

In a browser, with every frame beside the answer:
  ${app.url}/

Text as it comes:
  curl -N '${app.url}/stream?format=text&prompt=hello'
Typed frames, with ids to resume from:
  curl -N ${app.url}/stream -H 'content-type: application/json' -d '{"prompt":"hello"}'
A tool that Sluice runs in the middle of the answer:
  curl -N ${app.url}/stream -H 'content-type: application/json' -d '{"preset":"weather","prompt":"Is it warm in Zürich?"}'
An overload in the middle of the answer:
  curl -N '${app.url}/stream?prompt=hello&model=claude-sim%3Ftext%3D40%26delay_ms%3D30%26error_at%3D20'

${askingForKeys(mode)}Ctrl-C stops it.
`)
  },
}

function askingForKeys(mode: Config['access']['mode']): string {
  if (mode === undefined || mode === 'none') return ''
  return `All of these need a ${mode === 'keys' ? 'key' : 'token'}: for curl, -H 'authorization: Bearer …'.\n\n`
}

/** A server with these settings, and a simulated Claude behind it. */
export async function startDemo(config: Config) {
  const [{ startApp }, { Simulator }] = await Promise.all([import('../app.ts'), import('../simulator/server.ts')])
  const simulator = await Simulator.start({ defaults: { delay_ms: 30 } })
  const { openDemoTools } = await import('./demo-tools.ts')
  const { tools, presets } = await openDemoTools()
  const demoConfig: Config = {
    ...config,
    // What the configuration has under these names comes first.
    tools: { ...tools, ...config.tools },
    presets: { ...presets, ...config.presets },
    apiKeys: ['demo'],
    upstream: { ...config.upstream, base_url: simulator.url, default_model: 'claude-sim' },
  }
  const { log_level } = config.telemetry
  const app = await startApp(demoConfig, createLogger(log_level === 'info' ? 'warn' : log_level))
  return { app, simulator }
}
