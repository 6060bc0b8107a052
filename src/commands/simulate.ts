import { type Command, noWords, print, textOf, UsageError, wholeNumber } from './command.ts'
import { onStopSignal } from './signals.ts'

export const simulate: Command = {
  name: 'simulate',
  summary: 'the simulated Claude alone: a Messages API for tests and load',
  options: {
    port: { type: 'string', value: 'N', says: '8788 unless given; 0 for any free one' },
    host: { type: 'string', value: 'HOST', says: '127.0.0.1 unless given' },
    defaults: {
      type: 'string',
      value: 'QUERY',
      says: "what to do with requests that do not say: 'text=200&delay_ms=20'",
    },
    recordings: { type: 'string', value: 'DIR', says: 'play what is there, too: what sluice record has made' },
  },
  examples: [
    ['sluice simulate', 'then ANTHROPIC_API_KEY=any ANTHROPIC_BASE_URL=http://127.0.0.1:8788 sluice'],
    ["sluice simulate --defaults 'error_at=20'", 'every answer is overloaded after 20 events'],
  ],
  async run(args) {
    noWords(args)
    const { values } = args
    // Loaded where they are needed: most commands need none of this.
    const [{ Simulator }, { parseScenario, scenarioFields }, { loadRecordings }] = await Promise.all([
      import('../simulator/server.ts'),
      import('../simulator/scenario.ts'),
      import('../simulator/recordings.ts'),
    ])
    const host = textOf(values['host'])
    const folder = textOf(values['recordings'])
    const own = folder === undefined ? new Map<string, Buffer>() : loadRecordings(folder)
    if (folder !== undefined && own.size === 0) throw new UsageError(`--recordings: there is no .sse file in ${folder}`)
    const simulator = await Simulator.start({
      port: wholeNumber('port', values['port'], 8788),
      ...(host && { host }),
      defaults: parseScenario(textOf(values['defaults']) ?? ''),
      recordings: new Map([...loadRecordings(), ...own]),
    })
    onStopSignal(() => void simulator.close())
    const width = Math.max(...Object.keys(scenarioFields).map((name) => name.length))
    const fields = Object.entries(scenarioFields).map(
      ([name, field]) => `  ${name.padEnd(width)}  ${field.description}`,
    )
    const names = [...own.keys()].map((name) => `  ${name}\n`)
    print(`A simulated Claude is listening on ${simulator.url}; any key will do.

What an answer is like goes into the model name, e.g. "claude-sim?text=500&delay_ms=20&error_at=40":
${fields.join('\n')}
${names.length > 0 ? `\nRecordings in ${folder}, e.g. "claude-sim?recording=…&pace=recorded":\n${names.join('')}` : ''}`)
  },
}
