import { z } from 'zod'

/**
 * OpenAI's messages and what Claude calls the same.
 * @see https://platform.openai.com/docs/api-reference/chat/create
 * @see https://platform.claude.com/docs/en/api/messages
 */

const text = z.string().min(1)
const textPart = z.strictObject({ type: z.literal('text'), text: z.string() })
const refusalPart = z.strictObject({ type: z.literal('refusal'), refusal: z.string() })

const imagePart = z.strictObject({
  type: z.literal('image_url'),
  image_url: z.strictObject({
    url: z.string().transform((url, context) => {
      if (/^https?:\/\//i.test(url)) return { type: 'url', url }
      return dataOf(url, /^image\//) ?? refuse(context, 'must be an http(s) URL or data:image/…;base64,…')
    }),
    // Claude knows one level of detail; this is a hint about cost.
    detail: z.enum(['auto', 'low', 'high', 'original']).nullish(),
  }),
})

const filePart = z.strictObject({
  type: z.literal('file'),
  file: z.strictObject({
    file_data: z
      .string('send the file itself, as data:application/pdf;base64,…')
      .transform(
        (url, context) => dataOf(url, /^application\/pdf$/) ?? refuse(context, 'must be data:application/pdf;base64,…'),
      ),
    filename: text.nullish(),
  }),
})

interface Refining {
  readonly issues: unknown[]
  addIssue(message: string): void
}

function refuse(context: Refining, message: string): never {
  context.addIssue(message)
  return z.NEVER
}

/** A `data:` URL as a source of Claude's. Its head is cut off first: patterns over megabytes are slow. */
function dataOf(url: string, mediaType: RegExp) {
  const media_type = /^data:([\w.+-]+\/[\w.+-]+);base64,/i.exec(url.slice(0, 128))?.[1]?.toLowerCase()
  if (media_type === undefined || !mediaType.test(media_type)) return undefined
  return { type: 'base64', media_type, data: url.slice(url.indexOf(',') + 1) }
}

/** Content is a list of parts, or a text, which is a list of one. */
function contentOf<T extends z.ZodType>(part: T) {
  const listed = (value: unknown) => (typeof value === 'string' ? [{ type: 'text', text: value }] : value)
  return z.preprocess(listed, z.array(part, 'must be a text or a list of parts').max(100_000))
}

const texts = contentOf(textPart)

const userPart = z.discriminatedUnion('type', [textPart, imagePart, filePart], {
  error: 'must be text, image_url or file: Claude takes no other parts',
})

const assistantPart = z.discriminatedUnion('type', [textPart, refusalPart], { error: 'must be text or refusal' })

/** Deeper than any schema of a tool; what is rebuilt as JSON must not exhaust the stack. */
const maxDepth = 64

const toolArguments = z.string().transform((json, context): object => {
  if (json.trim() === '') return {}
  let input: unknown
  try {
    input = JSON.parse(json)
  } catch {
    return refuse(context, 'must be the JSON of an object')
  }
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    return refuse(context, 'must be the JSON of an object')
  }
  return isDeeperThan(maxDepth, input) ? refuse(context, 'is nested too deeply') : input
})

function isDeeperThan(limit: number, value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  return limit === 0 || Object.values(value).some((each) => isDeeperThan(limit - 1, each))
}

const toolCall = z.looseObject({
  id: text,
  type: z.literal('function', 'must be function: Claude has no custom tools').default('function'),
  function: z.looseObject({ name: text, arguments: toolArguments }),
})

/** As our answers gave it; Claude checks the signatures. */
const thinkingBlock = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('thinking'), thinking: z.string(), signature: text }),
  z.strictObject({ type: z.literal('redacted_thinking'), data: text }),
])

const name = z.string().nullish()
const nothing = (message: string) => z.null(message).optional()

const assistantMessage = z.strictObject({
  role: z.literal('assistant'),
  content: contentOf(assistantPart).nullish(),
  refusal: z.string().nullish(),
  tool_calls: z.array(toolCall).max(10_000).nullish(),
  thinking_blocks: z.array(thinkingBlock).max(10_000).nullish(),
  name,
  function_call: nothing('use tool_calls'),
  audio: nothing('Claude does not speak'),
  // Clients send back whole answers: what these say is told elsewhere, or was only for the client.
  reasoning_content: z.string().nullish(),
  annotations: z.unknown().optional(),
  parsed: z.unknown().optional(),
})

const message = z.discriminatedUnion(
  'role',
  [
    z.strictObject({ role: z.literal(['system', 'developer']), content: texts, name }),
    z.strictObject({ role: z.literal('user'), content: contentOf(userPart), name }),
    assistantMessage,
    z.strictObject({ role: z.literal('tool'), tool_call_id: text, content: texts, name }),
  ],
  { error: 'must be system, developer, user, assistant or tool' },
)

type OpenAIMessage = z.output<typeof message>
type Part = z.output<typeof userPart> | z.output<typeof assistantPart>

export const messageList = z
  .array(message)
  .min(1)
  .max(100_000)
  .refine((messages) => messages.some(({ role }) => role !== 'system' && role !== 'developer'), {
    message: 'must hold more than instructions',
  })

interface ClaudeMessage {
  readonly role: 'user' | 'assistant'
  readonly content: string | object[]
}

/** Instructions are hoisted: Claude takes them beside the messages. */
export function toClaude(messages: readonly OpenAIMessage[]): { system?: string; messages: ClaudeMessage[] } {
  const system: string[] = []
  const turns: ClaudeMessage[] = []
  let results: object[] | undefined
  for (const each of messages) {
    if (each.role === 'user' || each.role === 'assistant') results = undefined
    switch (each.role) {
      case 'system':
      case 'developer':
        system.push(...each.content.map((part) => part.text))
        break
      case 'user':
        turns.push({ role: 'user', content: contentFor(each.content) })
        break
      case 'assistant': {
        const content = assistantContent(each)
        // Claude refuses a message that is empty, such as the one that came with a refusal.
        if (content.length > 0) turns.push({ role: 'assistant', content })
        break
      }
      case 'tool':
        // Claude wants the results of parallel calls in one message.
        results ??= addResults(turns)
        results.push({ type: 'tool_result', tool_use_id: each.tool_call_id, content: contentFor(each.content) })
    }
  }
  const instructions = system.join('\n')
  return { ...(instructions !== '' && { system: instructions }), messages: turns }
}

function addResults(turns: ClaudeMessage[]): object[] {
  const content: object[] = []
  turns.push({ role: 'user', content })
  return content
}

function assistantContent(message: z.output<typeof assistantMessage>): string | object[] {
  const refusal = message.refusal ? [{ type: 'refusal' as const, refusal: message.refusal }] : []
  const said = contentFor([...(message.content ?? []), ...refusal])
  const thinking = message.thinking_blocks ?? []
  const calls = (message.tool_calls ?? []).map(({ id, function: { name, arguments: input } }) => {
    return { type: 'tool_use', id, name, input }
  })
  if (thinking.length === 0 && calls.length === 0) return said
  const blocks = typeof said === 'string' ? [{ type: 'text', text: said }] : said
  return [...thinking, ...(said === '' ? [] : blocks), ...calls]
}

/** Claude refuses empty texts, which say nothing; what is one text is sent as one. */
function contentFor(parts: readonly Part[]): string | object[] {
  const blocks = parts.map(toBlock).filter((block) => block.type !== 'text' || block.text !== '')
  if (blocks.length === 0) return ''
  const [only] = blocks
  return blocks.length === 1 && only?.type === 'text' ? (only.text as string) : blocks
}

function toBlock(part: Part): { type: string; text?: string; [field: string]: unknown } {
  switch (part.type) {
    case 'text':
      return part
    case 'refusal':
      return { type: 'text', text: part.refusal }
    case 'image_url':
      return { type: 'image', source: part.image_url.url }
    case 'file': {
      const { file_data, filename } = part.file
      return { type: 'document', source: file_data, ...(filename && { title: filename }) }
    }
  }
}
