import { hash } from 'node:crypto'
import type { Tool as McpTool } from '@modelcontextprotocol/client'
import { type Resolve, systemResolve } from './guard.ts'
import { connectMcp } from './mcp-connection.ts'
import type { McpSettings } from './settings.ts'

/**
 * Stands for what Claude is told about a tool. A server that changes it later changes what Claude does, without anybody
 * having agreed to that.
 */
export function pinOf({ description, inputSchema }: Pick<McpTool, 'description' | 'inputSchema'>): string {
  return hash('sha256', JSON.stringify(sorted({ description: description ?? null, input_schema: inputSchema })), 'hex')
}

/** The pins of all tools that a server has now, for `pins` of the configuration. */
export async function pinsOf(settings: McpSettings, resolve: Resolve = systemResolve): Promise<Record<string, string>> {
  const connection = await connectMcp(settings, resolve, { onDoubt: () => {}, onLost: () => {} })
  try {
    return Object.fromEntries((await connection.list()).map((tool) => [tool.name, pinOf(tool)]))
  } finally {
    await connection.close()
  }
}

/** The order of keys means nothing, so it changes no pin. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1))
  return Object.fromEntries(entries.map(([key, each]) => [key, sorted(each)]))
}
