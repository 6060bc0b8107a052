import type { AppTools } from '../../src/app.ts'
import type { Tool, ToolCall, ToolContext, ToolOutcome } from '../../src/core/tools.ts'
import { fetchAll } from './client.ts'

export interface FakeTool extends Tool {
  /** How it was called. */
  readonly calls: ToolCall[]
  readonly contexts: ToolContext[]
}

type Work = (call: ToolCall, context: ToolContext) => ToolOutcome | Promise<ToolOutcome>

/** A tool that answers what a test says: by itself at once, with its name and how often it was called. */
export function fakeTool(name: string, work?: Work, more: Partial<Tool> = {}): FakeTool {
  const calls: ToolCall[] = []
  const contexts: ToolContext[] = []
  return {
    definition: { name, description: `The tool ${name}`, input_schema: { type: 'object' } },
    approval: 'none',
    timeoutMs: 60_000,
    ...more,
    calls,
    contexts,
    async run(call, context) {
      calls.push(call)
      contexts.push(context)
      return work ? work(call, context) : said(`${name} ${calls.length}`)
    },
  }
}

export const said = (content: ToolOutcome['content']): ToolOutcome => ({ content, is_error: false })

/** Never answers, and hears nothing. */
export const deaf = (): Promise<never> => new Promise(() => {})

/** Tools that are offered in every stream. */
export function toolboxOf(...all: readonly Tool[]): AppTools {
  return toolboxWith(all)
}

/** The same with a list that a test changes meanwhile. */
export function toolboxWith(tools: readonly Tool[]): AppTools {
  const names = tools.map(({ definition }) => definition.name)
  const toolbox = {
    find: (name: string) => tools.find(({ definition }) => definition.name === name),
    names: () => names,
    async close() {},
  }
  return { toolbox, offered: names }
}

/** Decides on a call that waits. */
export function decide(url: string, stream: string, call: string, body: unknown) {
  return fetchAll(`${url}/streams/${stream}/tools/${call}`, { body })
}

/** Tools that are at `url`, which may be another process's; `careful` needs consent. */
export function remoteTools(url: string, names: readonly string[]): AppTools {
  const post = async ({ id, name, input }: ToolCall): Promise<ToolOutcome> => {
    const response = await fetch(url, { method: 'POST', body: JSON.stringify({ id, name, input }) })
    return said(await response.text())
  }
  const remote = (name: string) => fakeTool(name, post, name === 'careful' ? { approval: 'required' } : {})
  return toolboxOf(...names.map(remote))
}
