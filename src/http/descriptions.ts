import { z } from 'zod'
import { idempotencyKey } from '../core/request.ts'
import { runAgentInput } from '../formats/ag-ui-request.ts'
import { chatBody } from '../formats/ai-sdk-request.ts'
import { chatCompletionBody } from '../formats/openai-request.ts'
import { countBody, messagesBody } from './anthropic.ts'
import type { RouteDescription } from './openapi.ts'
import { selfTestQuery } from './self-test.ts'
import { ticketBody } from './tickets.ts'
import { decisionBody } from './tools.ts'
import { streamReader } from './view.ts'

const streamOrJson = { 200: 'text/event-stream', 201: 'application/json' } as const
const eventStream = { 200: 'text/event-stream' } as const
const json = { 200: 'application/json' } as const

const { schemas } = streamReader

/** Makes a request safe to send again. */
const keyed = z.object({ 'idempotency-key': idempotencyKey.optional() })
/** The id of the last frame that a client has. */
const resumed = z.object({ 'last-event-id': z.string().optional() })

/** All routes, with the very schemas that check their requests. */
export const routeDescriptions: readonly RouteDescription[] = [
  {
    method: 'get',
    path: '/stream',
    tickets: true,
    summary: 'Ask Claude and stream the answer; with Last-Event-ID, resume it',
    query: schemas.query,
    headers: resumed,
    success: { ...eventStream, 204: 'nothing' },
  },
  {
    method: 'post',
    path: '/stream',
    summary: 'Ask Claude and stream the answer; with Accept: application/json, begin it for others to read',
    headers: keyed,
    body: schemas.body,
    success: streamOrJson,
  },
  {
    method: 'post',
    path: '/api/chat',
    summary: "The same, or a message of the AI SDK's useChat",
    headers: keyed,
    body: chatBody.or(schemas.body),
    success: streamOrJson,
  },
  {
    method: 'get',
    path: '/api/chat/{id}/stream',
    tickets: true,
    summary: 'The live answer of a chat, from its start',
    success: { ...eventStream, 204: 'nothing' },
  },
  {
    method: 'get',
    path: '/streams/{id}',
    tickets: true,
    summary: 'Read a stream from any position, in any format; with Accept: application/json, a snapshot of it',
    query: schemas.attachment,
    headers: resumed,
    success: { ...eventStream, 204: 'nothing' },
  },
  { method: 'delete', path: '/streams/{id}', summary: 'Stop a stream', success: json },
  {
    method: 'post',
    path: '/streams/{id}/tools/{call}',
    summary: 'Decide on a tool call that waits for consent, or give its result',
    body: decisionBody,
    success: json,
  },
  {
    method: 'post',
    path: '/v1/messages',
    summary: "Anthropic's Messages API, streaming and not",
    headers: keyed,
    body: messagesBody,
    success: eventStream,
  },
  {
    method: 'post',
    path: '/v1/messages/count_tokens',
    summary: "Anthropic's token count",
    body: countBody,
    success: json,
  },
  { method: 'get', path: '/v1/models', summary: "Anthropic's list of models", success: json },
  { method: 'get', path: '/v1/models/{id}', summary: 'One of them', success: json },
  {
    method: 'post',
    path: '/v1/chat/completions',
    summary: "OpenAI's chat completions, streaming and not",
    headers: keyed,
    body: chatCompletionBody,
    success: eventStream,
  },
  {
    method: 'post',
    path: '/tickets',
    summary: 'A ticket for one EventSource, which can send no key',
    body: ticketBody,
    success: { 201: 'application/json' },
  },
  {
    method: 'post',
    path: '/ag-ui',
    summary: 'An AG-UI agent',
    headers: keyed,
    body: runAgentInput,
    success: eventStream,
  },
  {
    method: 'get',
    path: '/self-test',
    summary: 'A stream that costs no tokens, to find out what lies between a client and here',
    query: selfTestQuery,
    success: eventStream,
  },
  { method: 'get', path: '/self-test/{id}', summary: 'How the server saw such a stream end', success: json },
  { method: 'get', path: '/limits', summary: 'What whoever asks may use, and what of it is left', success: json },
  { method: 'get', path: '/healthz', summary: 'The process answers', open: true, success: json },
  { method: 'get', path: '/readyz', summary: 'New streams are taken', open: true, success: json },
  {
    method: 'get',
    path: '/metrics',
    summary: 'For Prometheus, with the token of those who operate this server',
    open: true,
    success: { 200: 'text/plain' },
  },
  {
    method: 'get',
    path: '/ops/events',
    summary: 'The last hour and how things stand, for those who operate this server',
    open: true,
    success: eventStream,
  },
  {
    method: 'delete',
    path: '/ops/streams/{id}',
    summary: 'Stop a stream of anybody’s, with the token of those who operate this server',
    open: true,
    success: json,
  },
  { method: 'get', path: '/openapi.json', summary: 'This', success: json },
]
