import type { Usage } from '../core/usage.ts'

const count = (value: unknown): number => (Number.isSafeInteger(value) && Number(value) > 0 ? Number(value) : 0)

/** AG-UI's input tokens include the cached ones, Claude's do not. */
export function tokenUsage(usage: Usage, model: string): object {
  const cachedInputTokens = count(usage.cache_read_input_tokens)
  const cacheWriteInputTokens = count(usage.cache_creation_input_tokens)
  const inputTokens = count(usage.input_tokens) + cachedInputTokens + cacheWriteInputTokens
  const outputTokens = count(usage.output_tokens)
  const details = usage['output_tokens_details'] as { thinking_tokens?: unknown } | null | undefined
  return {
    provider: 'anthropic',
    model,
    inputTokens,
    outputTokens,
    totalTokens: inputTokens + outputTokens,
    cachedInputTokens,
    cacheWriteInputTokens,
    ...(details?.thinking_tokens !== undefined && { reasoningTokens: count(details.thinking_tokens) }),
  }
}
