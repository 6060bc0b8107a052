import { z } from 'zod'
import { type AskedRequest, check, modelName } from '../core/request.ts'
import { messageList, toClaude } from './openai-messages.ts'

const text = z.string().min(1)

const functionShape = z.strictObject({
  name: text,
  description: z.string().nullish(),
  parameters: z.looseObject({}).nullish(),
  strict: z.boolean().nullish(),
})

const tool = z.strictObject({
  type: z.literal('function', 'must be function: Claude has no custom tools'),
  function: functionShape,
})

const named = z.strictObject({ name: text })
const toolChoice = z.union(
  [z.enum(['auto', 'none', 'required']), z.strictObject({ type: z.literal('function'), function: named })],
  { error: 'must be auto, none, required or a function' },
)

const responseFormat = z.discriminatedUnion(
  'type',
  [
    z.strictObject({ type: z.literal('text') }),
    z.strictObject({
      type: z.literal('json_schema'),
      json_schema: z.strictObject({
        name: text,
        schema: z.looseObject({}),
        description: z.string().nullish(),
        strict: z.boolean().nullish(),
      }),
    }),
    z
      .strictObject({ type: z.literal('json_object') })
      .refine(() => false, 'Claude has no json_object: use json_schema and say which shape you want'),
  ],
  { error: 'must be text or json_schema' },
)

const efforts = ['none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max'] as const
const count = z.int().min(1).max(1_000_000)
const leaveOut = (why: string) => `${why}: leave it out`

/** What Claude's API knows, under OpenAI's names. */
const mapped = {
  model: modelName.nullish(),
  messages: messageList,
  stream: z.boolean().nullish(),
  stream_options: z
    .strictObject({
      include_usage: z.boolean().nullish(),
      include_obfuscation: z.literal(false, leaveOut('no padding is added')).nullish(),
    })
    .nullish(),
  max_completion_tokens: count.nullish(),
  max_tokens: count.nullish(),
  temperature: z.number().min(0).max(1, 'Claude takes 0 to 1').nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  stop: z
    .preprocess(
      (value) => (typeof value === 'string' ? [value] : value),
      z.array(z.string().regex(/\S/, 'Claude cannot stop at blanks alone')).max(8191),
    )
    .nullish(),
  tools: z.array(tool).max(10_000).nullish(),
  tool_choice: toolChoice.nullish(),
  functions: z.array(functionShape).max(10_000).nullish(),
  function_call: z.union([z.enum(['auto', 'none']), named], { error: 'must be auto, none or a name' }).nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  user: z.string().nullish(),
  safety_identifier: z.string().nullish(),
  reasoning_effort: z.enum(efforts).nullish(),
  response_format: responseFormat.nullish(),
  /** Claude's own, as Anthropic's endpoint for OpenAI's clients takes it. */
  thinking: z.looseObject({ type: text }).nullish(),
}

/**
 * What Claude's API does not know. Hints and labels are dropped; whatever else would change the answer must be at the
 * value that asks for nothing.
 */
const dropped = {
  seed: z.int().nullish(),
  metadata: z.record(z.string(), z.string()).nullish(),
  prompt_cache_key: z.string().nullish(),
  prompt_cache_retention: z.string().nullish(),
  service_tier: z.enum(['auto', 'default'], 'must be auto or default').nullish(),
  modalities: z.array(z.literal('text', 'Claude answers in text')).nullish(),
  n: z.literal(1, 'must be 1: Claude gives one answer').nullish(),
  logprobs: z.literal(false, leaveOut('Claude gives no log probabilities')).nullish(),
  top_logprobs: z.literal(0, leaveOut('Claude gives no log probabilities')).nullish(),
  logit_bias: z.record(z.string(), z.never(leaveOut('Claude takes no bias'))).nullish(),
  presence_penalty: z.literal(0, leaveOut('Claude takes no penalties')).nullish(),
  frequency_penalty: z.literal(0, leaveOut('Claude takes no penalties')).nullish(),
  store: z.literal(false, leaveOut('answers are not stored')).nullish(),
  verbosity: z.literal('medium', leaveOut('say it in the prompt')).nullish(),
  audio: z.null(leaveOut('Claude does not speak')).optional(),
  prediction: z.null(leaveOut('Claude takes no predictions')).optional(),
  moderation: z.null(leaveOut('Claude has no such option')).optional(),
  web_search_options: z.null(leaveOut('Claude has no such option')).optional(),
}

export const chatCompletionBody = z.strictObject({ ...mapped, ...dropped })
type Body = z.output<typeof chatCompletionBody>

export interface OpenAIRequest {
  readonly message: AskedRequest
  readonly echo: { readonly include_usage: boolean }
  readonly stream: boolean
}

/**
 * A chat completions request as one of the Messages API. What cannot be mapped is refused, not lost.
 * @throws SluiceError `invalid_request` naming every field that is wrong
 * @see https://platform.claude.com/docs/en/api/openai-sdk
 */
export function openaiRequest(input: unknown): OpenAIRequest {
  const request = check(chatCompletionBody, input)
  const max_tokens = request.max_completion_tokens ?? request.max_tokens
  return {
    message: {
      ...(typeof request.model === 'string' && { model: request.model }),
      ...(typeof max_tokens === 'number' && { max_tokens }),
      ...toClaude(request.messages),
      ...samplingOf(request),
      ...toolsOf(request),
      ...outputOf(request),
    },
    echo: { include_usage: request.stream_options?.include_usage ?? false },
    stream: request.stream ?? false,
  }
}

function samplingOf({ temperature, top_p, stop, user, safety_identifier }: Body) {
  const user_id = user ?? safety_identifier
  return {
    ...(typeof temperature === 'number' && { temperature }),
    ...(typeof top_p === 'number' && { top_p }),
    ...(stop && stop.length > 0 && { stop_sequences: stop }),
    ...(typeof user_id === 'string' && { metadata: { user_id } }),
  }
}

function toolsOf(request: Body) {
  const functions = [...(request.tools ?? []).map((each) => each.function), ...(request.functions ?? [])]
  const tool_choice = toolChoiceOf(request)
  if (functions.length > 0) return { tools: functions.map(toTool), ...(tool_choice && { tool_choice }) }
  return {}
}

function toTool({ name, description, parameters, strict }: z.output<typeof functionShape>) {
  return {
    name,
    ...(description && { description }),
    input_schema: { type: 'object', ...(parameters ?? { properties: {} }) },
    ...(strict && { strict }),
  }
}

function toolChoiceOf({ tool_choice, function_call, parallel_tool_calls }: Body) {
  const choice = tool_choice ?? function_call
  if (choice === 'none') return { type: 'none' }
  const one = parallel_tool_calls === false && { disable_parallel_tool_use: true }
  if (choice === 'required') return { type: 'any', ...one }
  if (typeof choice !== 'object' || choice === null) return (choice || one) && { type: 'auto', ...one }
  return { type: 'tool', name: 'function' in choice ? choice.function.name : choice.name, ...one }
}

function outputOf({ reasoning_effort, response_format, thinking }: Body) {
  const schema = response_format?.type === 'json_schema' ? response_format.json_schema.schema : undefined
  const effort = reasoning_effort === 'minimal' ? 'low' : reasoning_effort
  const output = {
    ...(effort && effort !== 'none' && { effort }),
    ...(schema && { format: { type: 'json_schema', schema } }),
  }
  const wanted = thinking ?? (effort === 'none' ? { type: 'disabled' } : undefined)
  return {
    ...(Object.keys(output).length > 0 && { output_config: output }),
    ...(wanted && { thinking: wanted }),
  }
}
