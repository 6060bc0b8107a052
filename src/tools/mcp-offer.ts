import type { Tool as McpTool } from '@modelcontextprotocol/client'
import type { Tool } from '../core/tools.ts'
import type { ToolLog } from './failures.ts'
import { type Invoke, limitedTool } from './limited.ts'
import { pinOf } from './pins.ts'
import { compileSchema, SchemaFault } from './schema.ts'
import { type McpSettings, offeredName } from './settings.ts'

/** Claude reads every definition with every request. */
const maxDefinitionBytes = 64 * 1024

interface Offered {
  readonly pin: string
  readonly tool: Tool
}

/** Decides which tools of a server are offered: those that are allowed, and are what was agreed to. */
export class McpOffer {
  readonly #name: string
  readonly #settings: McpSettings
  readonly #log: ToolLog
  readonly #invokeOf: (tool: string) => Invoke
  /** The pins that hold without being in the configuration: those of the first sight. */
  readonly #seen = new Map<string, string>()
  readonly #offered = new Map<string, Offered>()
  /** What was told last of a tool, so that a list that comes again and again tells it once. */
  readonly #told = new Map<string, string>()

  constructor(name: string, settings: McpSettings, log: ToolLog, invokeOf: (tool: string) => Invoke) {
    this.#name = name
    this.#settings = settings
    this.#log = log
    this.#invokeOf = invokeOf
  }

  /** @param listed all that the server has now */
  from(listed: readonly McpTool[]): ReadonlyMap<string, Tool> {
    const tools = new Map<string, Tool>()
    for (const name of this.#settings.allow) {
      const found = listed.find((each) => each.name === name)
      const tool = found ? this.#offer(found) : this.#off(name, 'the server does not have it')
      if (tool) tools.set(tool.definition.name, tool)
    }
    return tools
  }

  #offer(found: McpTool): Tool | undefined {
    const { name } = found
    const { pins, pin: mustBePinned } = this.#settings
    const pin = pinOf(found)
    const agreed = pins[name] ?? (mustBePinned ? undefined : (this.#seen.get(name) ?? pin))
    if (agreed === undefined) return this.#off(name, 'it has no pin in the configuration', pin)
    if (agreed !== pin) return this.#off(name, 'its description or schema has changed', pin)
    this.#seen.set(name, pin)
    const before = this.#offered.get(name)
    if (before?.pin === pin) return before.tool
    const tool = this.#make(found)
    if (tool) this.#offered.set(name, { pin, tool })
    return tool
  }

  #make({ name, description, inputSchema }: McpTool): Tool | undefined {
    const { approval, approvals, timeout_ms, max_concurrent } = this.#settings
    const offered = offeredName(this.#name, name)
    const definition = { name: offered, ...(description && { description }), input_schema: inputSchema }
    if (Buffer.byteLength(JSON.stringify(definition)) > maxDefinitionBytes) {
      return this.#off(name, `its definition is larger than ${maxDefinitionBytes} bytes`)
    }
    try {
      const limits = {
        definition,
        checkInput: compileSchema(inputSchema),
        approval: approvals[name] ?? approval,
        timeoutMs: timeout_ms,
        maxConcurrent: max_concurrent,
        log: this.#log,
      }
      return limitedTool(limits, this.#invokeOf(name))
    } catch (fault) {
      if (!(fault instanceof SchemaFault)) throw fault
      return this.#off(name, 'its schema cannot be used')
    }
  }

  #off(tool: string, reason: string, pin?: string): undefined {
    const what = `${reason} ${pin}`
    if (this.#told.get(tool) === what) return
    this.#told.set(tool, what)
    this.#log.warn({ server: this.#name, tool, reason, ...(pin && { pin }) }, 'mcp tool is off')
  }
}
