import type { IncomingHttpHeaders } from 'node:http'
import { sanitize } from '../core/errors.ts'
import { isObject } from '../core/object.ts'
import type { ToolOutcome } from '../core/tools.ts'
import { type ContentBlock, cappedContent, imageBlock, textBlock, textOf } from './content.ts'
import { ToolFailure } from './failures.ts'
import type { SchemaCheck } from './schema.ts'

/** What came back from a webhook, its body still to be read. */
export interface WebhookAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: AsyncIterable<Buffer>
}

export interface AnswerLimits {
  readonly maxBytes: number
  readonly checkOutput: SchemaCheck | undefined
  onProgress(line: string): void
}

/** How much of the body of an error is read for Claude. */
const maxErrorBytes = 2_048

/** @throws ToolFailure, and what the body throws */
export async function readAnswer(answer: WebhookAnswer, limits: AnswerLimits): Promise<ToolOutcome> {
  const { status, headers } = answer
  if (status >= 300 && status < 400) throw new ToolFailure('redirect', String(status))
  if ((headers['content-encoding'] ?? 'identity') !== 'identity') throw new ToolFailure('encoding')
  if (status >= 400) throw new ToolFailure('status', String(status), await firstText(answer.body))
  if (status === 204) return { content: '', is_error: false }
  const value = await valueIn(answer, limits)
  return outcomeOf(value, limits)
}

async function valueIn({ headers, body }: WebhookAnswer, limits: AnswerLimits): Promise<unknown> {
  const [type = ''] = String(headers['content-type'] ?? '').split(';')
  switch (type.trim().toLowerCase()) {
    case 'application/json':
      return parse((await Array.fromAsync(texts(body, limits.maxBytes))).join(''))
    case 'application/x-ndjson':
    case 'text/event-stream':
      return lastLine(texts(body, limits.maxBytes), limits)
    default:
      throw new ToolFailure('content_type')
  }
}

/** Reads no further than `maxBytes`. */
async function* texts(body: AsyncIterable<Buffer>, maxBytes: number): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let size = 0
  for await (const chunk of body) {
    size += chunk.length
    if (size > maxBytes) throw new ToolFailure('too_large')
    yield decode(() => decoder.decode(chunk, { stream: true }))
  }
  yield decode(() => decoder.decode())
}

function decode(text: () => string): string {
  try {
    return text()
  } catch {
    throw new ToolFailure('not_json', 'no UTF-8')
  }
}

/** A line for each JSON value, in a stream of events each in one `data` field: those that are no progress are the answer. */
async function lastLine(chunks: AsyncIterable<string>, { onProgress }: AnswerLimits): Promise<unknown> {
  let rest: string[] = []
  for await (const chunk of chunks) {
    // A line may come in very many pieces, which are joined once, when it ends.
    const wasOpen = !rest.at(-1)?.endsWith('\r')
    rest.push(chunk)
    if (wasOpen && !/[\r\n]/.test(chunk)) continue
    const lines = rest.join('').split(/\r\n|\n|\r(?!$)/)
    rest = lines.splice(-1)
    for (const line of lines) {
      const value = lineValue(line)
      const progress = progressOf(value)
      if (progress !== undefined) onProgress(progress)
      else if (value !== undefined) return value
    }
  }
  const value = lineValue(rest.join(''))
  if (value === undefined || progressOf(value) !== undefined) throw new ToolFailure('cut_off', 'no answer')
  return value
}

/** `undefined` for lines that hold no value: blank ones, and comments and other fields of an event stream. */
function lineValue(line: string): unknown {
  const text = line.replace(/^data:/, '').trim()
  return text === '' || /^(?::|event:|id:|retry:)/.test(text) ? undefined : parse(text)
}

function progressOf(value: unknown): string | undefined {
  const { progress, ...rest } = isObject(value) ? value : {}
  return typeof progress === 'string' && Object.keys(rest).length === 0 ? progress : undefined
}

function outcomeOf(value: unknown, { maxBytes, checkOutput }: AnswerLimits): ToolOutcome {
  const { content, result, is_error } = isObject(value) ? value : {}
  const isError = is_error === true
  const given = result ?? content ?? value
  const fault = isError ? undefined : checkOutput?.(given)
  if (fault !== undefined) throw new ToolFailure('output_schema')
  if (given !== content || !Array.isArray(content)) return { content: textOf(given).toWellFormed(), is_error: isError }
  return { content: cappedContent(content.map(blockOf), maxBytes), is_error: isError }
}

/** Blocks of text and images as Claude has them; of any other what it says. */
function blockOf(block: unknown): ContentBlock {
  const { type, text, source } = isObject(block) ? block : {}
  if (type === 'text' && typeof text === 'string') return textBlock(text)
  if (type === 'image' && isObject(source)) return imageBlock(source['data'])
  return textBlock(textOf(block))
}

async function firstText(body: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of body) {
      chunks.push(chunk)
      size += chunk.length
      if (size >= maxErrorBytes) break
    }
  } catch {
    // The status is known, and says more than that the rest is missing.
  }
  return sanitize(Buffer.concat(chunks).subarray(0, maxErrorBytes).toString())
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new ToolFailure('not_json')
  }
}
