import { createHash } from 'node:crypto'

interface Block {
  readonly type?: unknown
  readonly id?: unknown
  readonly tool_use_id?: unknown
  readonly text?: unknown
  readonly thinking?: unknown
  readonly signature?: unknown
  readonly content?: unknown
  readonly is_error?: unknown
  readonly citations?: unknown
}

type Messages = readonly { readonly role: string; readonly content: unknown }[]

function blocksOf(message: Messages[number] | undefined): readonly Block[] {
  return Array.isArray(message?.content) ? message.content : []
}

/** Steps of the answer that is asked for which are over: turns that bring the results of tools, since the last question. */
export function stepsBefore(messages: Messages): number {
  const isStep = (message: Messages[number]) => blocksOf(message).some(({ type }) => type === 'tool_result')
  const question = messages.findLastIndex((message) => message.role === 'user' && !isStep(message))
  return messages.slice(question + 1).filter((message) => message.role === 'user').length
}

/** Ids of the calls of Anthropic's own tools in a turn that paused and comes back to be gone on with, the last one last. */
export function pausesBefore(messages: Messages): unknown[] {
  const turn = messages.slice(messages.findLastIndex(({ role }) => role === 'user') + 1).flatMap(blocksOf)
  if (turn.at(-1)?.type !== 'server_tool_use') return []
  return turn.filter(({ type }) => type === 'server_tool_use').map(({ id }) => id)
}

/** What proves that thinking comes back as it was. */
export function signatureOf(index: number, thinking: string): string {
  const hash = createHash('sha256').update(thinking).digest('hex').slice(0, 16)
  return Buffer.from(`signature of block ${index}: ${hash}`).toString('base64')
}

/** Why Claude refuses a conversation: calls without results or the other way round, and blocks that are not as it wants them. */
export function brokenTurnOf(messages: Messages): string | undefined {
  for (const [n, message] of messages.entries()) {
    const blocks = blocksOf(message)
    const fault = message.role === 'assistant' ? callsFault(n, blocks, messages[n + 1]) : resultsFault(n, messages)
    const broken = fault ?? blocks.map((block, at) => blockFault(`messages.${n}.content.${at}`, block)).find(Boolean)
    if (broken !== undefined) return broken
  }
  return undefined
}

function callsFault(n: number, blocks: readonly Block[], next: Messages[number] | undefined): string | undefined {
  const answered = new Set(blocksOf(next).map(({ tool_use_id }) => tool_use_id))
  const open = blocks.filter(({ type, id }) => type === 'tool_use' && !answered.has(id)).map(({ id }) => id)
  if (open.length === 0) return undefined
  return `messages.${n}: \`tool_use\` ids were found without \`tool_result\` blocks immediately after: ${open.join(', ')}. Each \`tool_use\` block must have a corresponding \`tool_result\` block in the next message.`
}

function resultsFault(n: number, messages: Messages): string | undefined {
  const called = new Set(blocksOf(messages[n - 1]).map(({ id }) => id))
  const stray = blocksOf(messages[n]).find(
    ({ type, tool_use_id }) => type === 'tool_result' && !called.has(tool_use_id),
  )
  return (
    stray &&
    `messages.${n}: unexpected \`tool_use_id\` found in \`tool_result\` blocks: ${stray.tool_use_id}. Each \`tool_result\` block must have a corresponding \`tool_use\` block in the previous message.`
  )
}

function blockFault(path: string, block: Block): string | undefined {
  const { type, text, thinking, signature, citations } = block
  if (type === 'text' && String(text).trim() === '')
    return `${path}: text content blocks must contain non-whitespace text`
  if (type === 'tool_result') return resultFault(path, block)
  const cited = Array.isArray(citations) ? citations.findIndex((citation) => 'file_id' in Object(citation)) : -1
  if (cited >= 0) return `${path}.text.citations.${cited}.file_id: Extra inputs are not permitted`
  if (type !== 'thinking') return undefined
  const [index] = /(?<=^signature of block )\d+/.exec(Buffer.from(String(signature), 'base64').toString()) ?? []
  if (index === undefined || signature === signatureOf(Number(index), String(thinking))) return undefined
  return `${path}: Invalid \`signature\` in \`thinking\` block`
}

function resultFault(path: string, block: Block): string | undefined {
  const content = block.content ?? ''
  const blocks: readonly Block[] = Array.isArray(content) ? content : []
  const inner = blocks.map((each, at) => blockFault(`${path}.content.${at}`, each)).find(Boolean)
  if (inner !== undefined || block.is_error !== true) return inner
  if (blocks.some(({ type }) => type !== 'text')) {
    return `${path}.tool_result: all content must be type \`text\` if \`is_error\` is true`
  }
  const isEmpty = blocks.length === 0 && String(content).trim() === ''
  return isEmpty ? `${path}.tool_result: content cannot be empty if \`is_error\` is true` : undefined
}
