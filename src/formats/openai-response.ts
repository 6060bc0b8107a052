import type { Block } from '../core/blocks.ts'
import type { Message } from '../core/message.ts'
import type { Usage } from '../core/usage.ts'

const finishReasons: ReadonlyMap<string | null, string> = new Map([
  ['max_tokens', 'length'],
  ['model_context_window_exceeded', 'length'],
  ['tool_use', 'tool_calls'],
  ['refusal', 'content_filter'],
])

/** Clients throw at a completion without a reason, so every other end, known or not, is `stop`. */
export function finishReason(stopReason: string | null): string {
  return finishReasons.get(stopReason) ?? 'stop'
}

/** Claude counts what comes from its cache and what goes into it beside the rest of the input, OpenAI within it. */
export function openaiUsage(usage: Usage) {
  const cached_tokens = usage.cache_read_input_tokens ?? 0
  const cache_write_tokens = usage.cache_creation_input_tokens ?? 0
  const prompt_tokens = usage.input_tokens + cached_tokens + cache_write_tokens
  const details = usage['output_tokens_details'] as { thinking_tokens?: number | null } | null | undefined
  return {
    prompt_tokens,
    completion_tokens: usage.output_tokens,
    total_tokens: prompt_tokens + usage.output_tokens,
    prompt_tokens_details: { cached_tokens, cache_write_tokens },
    completion_tokens_details: { reasoning_tokens: details?.thinking_tokens ?? 0 },
  }
}

/**
 * A whole answer, for clients that do not stream.
 * @see https://platform.openai.com/docs/api-reference/chat/object
 */
export function chatCompletion({ id, model, content: blocks, stop_reason, usage }: Message, created: number) {
  const join = (type: 'text' | 'thinking') =>
    blocks.flatMap((block) => (block.type === type ? [block[type] ?? ''] : [])).join('')
  const content = join('text')
  const reasoning_content = join('thinking')
  const thinking_blocks = blocks.filter(isGivenBack)
  const tool_calls = blocks.filter((block) => block.type === 'tool_use').map(toolCall)
  const message = {
    role: 'assistant',
    content: content === '' && tool_calls.length > 0 ? null : content,
    refusal: null,
    ...(reasoning_content !== '' && { reasoning_content }),
    ...(thinking_blocks.length > 0 && { thinking_blocks }),
    ...(tool_calls.length > 0 && { tool_calls }),
  }
  const choice = { index: 0, message, logprobs: null, finish_reason: finishReason(stop_reason) }
  const head = { id: `chatcmpl-${id}`, object: 'chat.completion', created, model }
  return { ...head, choices: [choice], usage: openaiUsage(usage) }
}

/** Thinking that Claude wants back with the results of the tools it called. */
function isGivenBack({ type, signature }: Block): boolean {
  return type === 'redacted_thinking' || (type === 'thinking' && Boolean(signature))
}

function toolCall({ id, name, input }: Block) {
  // `null` stands for what was cut off in the middle: an empty text is run by some clients as "no arguments".
  return { id, type: 'function', function: { name, arguments: input === null ? '{' : JSON.stringify(input ?? {}) } }
}
