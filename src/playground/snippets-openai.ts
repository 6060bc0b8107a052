interface Block {
  readonly type: string
  readonly text?: string
  readonly source?: { readonly media_type?: string; readonly data?: string }
  readonly title?: string
  readonly id?: string
  readonly name?: string
  readonly input?: unknown
  readonly tool_use_id?: string
  readonly content?: unknown
}

interface Turn {
  readonly role: string
  readonly content: string | readonly Block[]
}

/** A request in the words of OpenAI's API, as far as that has words for it. */
export function openaiBody(body: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { preset, model, system, messages, tools, max_tokens } = body
  const turns = (messages as readonly Turn[]).flatMap(messagesOf)
  return {
    model: preset ?? model ?? 'MODEL',
    ...(max_tokens !== undefined && { max_completion_tokens: max_tokens }),
    messages: system === undefined ? turns : [{ role: 'system', content: system }, ...turns],
    ...(Array.isArray(tools) && { tools: tools.flatMap(toolOf) }),
    stream: true,
    stream_options: { include_usage: true },
  }
}

function messagesOf({ role, content }: Turn): object[] {
  if (typeof content === 'string') return [{ role, content }]
  const results = content.filter(({ type }) => type === 'tool_result')
  const told = results.map(({ tool_use_id, content }) => ({
    role: 'tool',
    tool_call_id: tool_use_id,
    content: typeof content === 'string' ? content : JSON.stringify(content ?? ''),
  }))
  const parts = content.flatMap(partOf)
  const calls = content.flatMap(callOf)
  if (parts.length === 0 && calls.length === 0) return told
  const only = parts.length === 1 && 'text' in (parts[0] as object) ? (parts[0] as { text: string }).text : parts
  return [...told, { role, content: parts.length === 0 ? null : only, ...(calls.length > 0 && { tool_calls: calls }) }]
}

function partOf({ type, text, source, title }: Block): object[] {
  if (type === 'text') return [{ type: 'text', text }]
  const url = `data:${source?.media_type};base64,${source?.data}`
  if (type === 'image') return [{ type: 'image_url', image_url: { url } }]
  if (type === 'document') return [{ type: 'file', file: { filename: title ?? 'document.pdf', file_data: url } }]
  return []
}

function callOf({ type, id, name, input }: Block): object[] {
  return type === 'tool_use' ? [{ id, type: 'function', function: { name, arguments: JSON.stringify(input) } }] : []
}

function toolOf(tool: { name?: string; description?: string; input_schema?: unknown }): object[] {
  const { name, description, input_schema } = tool
  return input_schema ? [{ type: 'function', function: { name, description, parameters: input_schema } }] : []
}
