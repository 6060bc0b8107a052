import { stringify } from 'yaml'
import { loadConfig } from '../config.ts'
import type { McpSettings } from '../tools/settings.ts'
import { plainLine } from './chat/plain.ts'
import { type Command, complain, noWords, print } from './command.ts'

export const tools: Command = {
  name: 'tools',
  summary: 'the pins of what MCP servers offer now, for the configuration',
  details: `Asks every MCP server of the configuration. The pins of the tools in its allow go to stdout, as YAML; what would keep one
of them off goes to stderr: the server does not have it, it is not what its pin says, nobody answers. Exit code 1 then.
Look at a tool before you put its pin into the configuration: Claude does what its description says.`,
  examples: [['SLUICE_CONFIG=config/sluice.yaml sluice tools', 'after a server was upgraded']],
  async run(args) {
    noWords(args)
    const servers = Object.entries(loadConfig().tools).flatMap(([name, settings]) =>
      settings.kind === 'mcp' ? [[name, settings] as const] : [],
    )
    if (servers.length === 0) return print('There is no MCP server in the configuration.\n')
    const asked = await Promise.all(servers.map(([name, settings]) => ask(name, settings)))
    const pinned = Object.fromEntries(asked.flatMap(({ name, pins }) => (pins ? [[name, { pins }]] : [])))
    if (Object.keys(pinned).length > 0) print(stringify({ tools: pinned }))
    const faults = asked.flatMap(({ faults }) => faults)
    complain(asked.flatMap(({ name, notes }) => notes.map((note) => `sluice: tools.${name}: ${note}\n`)).join(''))
    complain(faults.map((fault) => `sluice: ${fault}\n`).join(''))
    if (faults.length > 0) process.exitCode = 1
  },
}

interface Asked {
  readonly name: string
  readonly pins?: Record<string, string>
  /** What keeps a tool off. */
  readonly faults: readonly string[]
  readonly notes: readonly string[]
}

async function ask(name: string, settings: McpSettings): Promise<Asked> {
  const [{ pinsOf }, { faultOf }] = await Promise.all([import('../tools/pins.ts'), import('../tools/mcp.ts')])
  let found: Record<string, string>
  try {
    found = await pinsOf(settings)
  } catch (thrown) {
    const { reason, detail } = faultOf(thrown)
    return { name, faults: [`tools.${name}: ${reason}${detail ? ` (${detail})` : ''}`], notes: [] }
  }
  const allowed = settings.allow.flatMap((tool) => (Object.hasOwn(found, tool) ? [[tool, found[tool] ?? '']] : []))
  const others = Object.keys(found).filter((tool) => !settings.allow.includes(tool))
  const faults = settings.allow.flatMap((tool) => {
    const pin = settings.pins[tool]
    if (!Object.hasOwn(found, tool)) return [`tools.${name}: the server has no ${tool}`]
    return pin !== undefined && pin !== found[tool] ? [`tools.${name}.pins.${tool}: it is not what it was`] : []
  })
  // Their names are the server's words.
  const notes = others.length > 0 ? [`not in allow: ${plainLine(others.join(', '), 500)}`] : []
  return { name, pins: Object.fromEntries(allowed), faults, notes }
}
