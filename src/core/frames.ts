import { z } from 'zod'
import { type ErrorCode, errorTable } from './errors.ts'
import { recoveryModes, toolDecisions } from './events.ts'

/**
 * The frames of the `json` format: the one description that types, JSON Schema and OpenAPI come from. Fields that
 * Claude may add pass through, so objects of Claude's are open; ours are closed.
 */
const block = z.int().min(0).describe("Claude's index of the content block")
const text = z.string()
const ours = z.strictObject
const claudes = z.looseObject

const usage = claudes({
  input_tokens: z.int(),
  output_tokens: z.int(),
  measured: z.literal(false).optional().describe('output_tokens is an estimate: Claude never gave its count'),
}).describe('as Claude reports it, cumulative')

const timing = ours({
  ttft_ms: z.int().nullable().describe('from the request to the first content'),
  duration_ms: z.int(),
  tokens_per_second: z.number().nullable().describe('since the first content'),
})

/** Of a tool of the server's. */
const call = { id: text, name: text }

const errorCode = z.enum(Object.keys(errorTable) as [ErrorCode, ...ErrorCode[]])

const error = ours({
  code: errorCode,
  message: text,
  retryable: z.boolean(),
})

export const frameSchema = z.discriminatedUnion('type', [
  ours({ type: z.literal('start'), stream: text, model: text, format_version: z.literal(1) }),
  claudes({ type: z.literal('message'), id: text, model: text, usage: claudes({}) }),
  ours({ type: z.literal('text'), block, text }),
  ours({ type: z.literal('thinking'), block, text }),
  claudes({
    type: z.literal('tool_start'),
    block,
    id: text,
    name: text,
    server: z.boolean().describe('Anthropic runs it, not the client'),
  }),
  ours({
    type: z.literal('tool_delta'),
    block,
    id: text.nullable(),
    json: text.describe('a piece of the input, as it came'),
  }),
  ours({
    type: z.literal('tool_call'),
    block,
    id: text,
    name: text,
    input: z.unknown().describe('whole and parsed; null beside invalid'),
    invalid: text.optional().describe('the input as it came, when it is no JSON: do not run the tool'),
  }),
  ours({ type: z.literal('citation'), block, citation: claudes({ type: text }) }),
  ours({
    type: z.literal('block'),
    block,
    content_block: claudes({ type: text }).describe('any other block, whole; or the signature of a thinking block'),
  }),
  ours({ type: z.literal('event'), event: claudes({ type: text }) }).describe(
    'what Claude sent and Sluice does not know',
  ),
  ours({
    type: z.literal('progress'),
    output_tokens: z.int(),
    percent: z.number().describe('of max_tokens'),
    tokens_per_second: z.number().nullable(),
    elapsed_ms: z.int(),
  }),
  ours({
    type: z.literal('recovery'),
    reason: errorCode.describe('why the attempt before failed'),
    attempt: z.int().min(1).describe('the number of the attempt that follows'),
    mode: z.enum(recoveryModes).describe('another model from the start, or the rest of the answer so far'),
    model: text.optional().describe('the other model, with mode fallback'),
  }).describe('the answer goes on where an attempt failed; a block that is open goes on as the same block'),
  ours({
    type: z.literal('tool_result'),
    ...call,
    content: z.union([text, z.array(claudes({}))]).describe('as Claude gets it'),
    is_error: z.boolean(),
  }).describe('a tool of the server has answered a call: it is not the client’s to answer'),
  ours({
    type: z.literal('tool_approval'),
    ...call,
    input: claudes({}),
    expires_at: z.iso.datetime().describe('without a decision until then the call is denied'),
  }).describe('a call waits for POST /streams/{id}/tools/{call}'),
  ours({
    type: z.literal('tool_decision'),
    ...call,
    decision: z.enum(toolDecisions),
    input: claudes({}).optional().describe('what the tool gets in the place of Claude’s input'),
  }),
  ours({ type: z.literal('tool_progress'), ...call, text: text.describe('a line for people') }),
  ours({
    type: z.literal('done'),
    stop_reason: text.nullable(),
    stop_sequence: text.optional(),
    stop_details: z.unknown().optional(),
    usage,
    cost_usd: z.number().nullable().describe('null for models without a price'),
    timing,
    recovered: z.int(),
    upstream_request_id: text.nullable(),
  }),
  ours({ type: z.literal('error'), error, partial: z.boolean(), usage, timing }),
  ours({ type: z.literal('cancelled'), by: z.enum(['client', 'stop', 'shutdown', 'limit']), usage }),
])

/** One frame of the `json` format. */
export type Frame = z.infer<typeof frameSchema>
