import { type Block, reject } from './ai-sdk-files.ts'

interface ToolPart {
  readonly type: string
  readonly [field: string]: unknown
}

export interface Place {
  readonly path: string
  /** The user has spoken since. */
  readonly superseded: boolean
}

/** What becomes of a call of a tool: blocks of the assistant's turn, and of the user's that follows. */
export interface ToolBlocks {
  readonly call: readonly Block[]
  readonly result: readonly Block[]
}

const nothing: ToolBlocks = { call: [], result: [] }

/** @throws SluiceError `invalid_request` when the call has no output yet */
export function clientTool(tool: ToolPart, { path, superseded }: Place): ToolBlocks {
  const { toolCallId: id, state } = tool
  // Its input never became whole; or it waited for a consent that the user's next message has overtaken.
  if (state === 'input-streaming' || (state === 'approval-requested' && superseded)) return nothing
  const call = {
    ...blockOf(tool['callProviderMetadata']),
    type: 'tool_use',
    id,
    name: nameOf(tool),
    input: inputOf(tool),
  }
  const outcome = outcomeOf(tool)
  if (!outcome) reject(path, `the call ${JSON.stringify(id)} of the tool ${JSON.stringify(nameOf(tool))} has no output`)
  return { call: [call], result: [{ type: 'tool_result', tool_use_id: id, ...outcome }] }
}

function outcomeOf(tool: ToolPart): { content: string; is_error?: true } | undefined {
  const { state, output, errorText, preliminary } = tool
  const approval = (tool['approval'] ?? {}) as { approved?: unknown; reason?: unknown }
  if (state === 'output-available' && preliminary !== true) {
    return { content: typeof output === 'string' ? output : (JSON.stringify(output) ?? '') }
  }
  if (state === 'output-error') return { content: String(errorText ?? 'The tool failed.'), is_error: true }
  if (state === 'output-denied' || (state === 'approval-responded' && approval.approved === false)) {
    const { reason } = approval
    return { content: typeof reason === 'string' && reason ? reason : 'The user denied this call.', is_error: true }
  }
  return undefined
}

/** What Anthropic ran goes back block by block as it came, where the page has kept all of it; else it is left out. */
export function providerTool(tool: ToolPart): ToolBlocks {
  const { toolCallId: id, state, output } = tool
  const call = blockOf(tool['callProviderMetadata'])
  const result = blockOf(tool['resultProviderMetadata'])
  if (
    call.type === undefined ||
    result.type === undefined ||
    !['output-available', 'output-error'].includes(String(state))
  ) {
    return nothing
  }
  const content = state === 'output-error' ? {} : { content: output }
  const blocks = [
    { ...call, id, name: nameOf(tool), input: inputOf(tool) },
    { ...result, tool_use_id: id, ...content },
  ]
  return { call: blocks as Block[], result: [] }
}

function nameOf(tool: ToolPart): string {
  return tool.type === 'dynamic-tool' ? String(tool['toolName']) : tool.type.slice('tool-'.length)
}

/** @see https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming */
function inputOf({ input, rawInput }: ToolPart): object {
  const told = input ?? rawInput ?? {}
  return typeof told === 'object' && !Array.isArray(told) ? told : { INVALID_JSON: told }
}

export function anthropicOf(metadata: unknown): Record<string, unknown> {
  const { anthropic } = (metadata ?? {}) as Record<string, unknown>
  return typeof anthropic === 'object' && anthropic !== null ? { ...anthropic } : {}
}

/** The rest of a block of Claude's, as the format `ai-sdk` gave it out. */
function blockOf(metadata: unknown): { readonly type?: string } {
  const { block } = anthropicOf(metadata)
  return typeof block === 'object' && block !== null && typeof (block as ToolPart).type === 'string' ? { ...block } : {}
}
