import { onTestFinished } from 'vitest'
import type { Tool, Toolbox, ToolCall, ToolContext, ToolOutcome } from '../../src/core/tools.ts'
import type { Resolve } from '../../src/tools/guard.ts'
import { type ToolSettings, toolSettings } from '../../src/tools/settings.ts'
import { openToolbox } from '../../src/tools/toolbox.ts'

export interface LogLine {
  readonly message: string
  readonly [field: string]: unknown
}

/** A log that keeps its lines. */
export function keptLog() {
  const lines: LogLine[] = []
  const keep = (fields: object, message: string) => void lines.push({ ...fields, message })
  return { lines, info: keep, warn: keep }
}

/** Tools as the configuration has them, with all defaults; those at loopback addresses are allowed unless it says otherwise. */
export function settingsOf(tools: Record<string, Record<string, unknown>>): ToolSettings {
  const isLocal = (url: unknown) => /127\.0\.0\.1|localhost/.test(String(url))
  const entries = Object.entries(tools).map(([name, tool]) => [
    name,
    { ...(isLocal(tool['url']) && { allow_private: ['127.0.0.0/8'] }), ...tool },
  ])
  return toolSettings.parse(Object.fromEntries(entries))
}

/** A toolbox that is closed when the test ends. */
export async function openTools(tools: Record<string, Record<string, unknown>>, resolve?: Resolve) {
  const log = keptLog()
  const toolbox = await openToolbox(settingsOf(tools), log, resolve)
  onTestFinished(() => toolbox.close())
  return { toolbox, log }
}

export function toolOf(toolbox: Toolbox, name: string): Tool {
  const tool = toolbox.find(name)
  if (!tool) throw new Error(`there is no tool ${name}, but ${toolbox.names().join(', ') || 'none at all'}`)
  return tool
}

export interface Called extends PromiseLike<ToolOutcome> {
  readonly progress: readonly string[]
  readonly outcome: Promise<ToolOutcome>
  abort(reason?: unknown): void
}

/** Calls a tool as a run would. */
export function callTool(tool: Tool, input: ToolCall['input'] = {}, id = 'toolu_1'): Called {
  const progress: string[] = []
  const stop = new AbortController()
  const context: ToolContext = {
    signal: stop.signal,
    stream: 'st_1',
    principal: 'alice',
    onProgress: (line) => void progress.push(line),
  }
  const outcome = tool.run({ id, name: tool.definition.name, input }, context)
  return {
    progress,
    outcome,
    abort: (reason) => stop.abort(reason),
    // biome-ignore lint/suspicious/noThenProperty: a call is awaited for its outcome.
    then: (onDone, onFault) => outcome.then(onDone, onFault),
  }
}
