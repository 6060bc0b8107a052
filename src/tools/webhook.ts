import { request } from 'undici'
import type { Tool, ToolCall, ToolContext, ToolOutcome } from '../core/tools.ts'
import { addressCheck } from './addresses.ts'
import { readAnswer } from './answer.ts'
import { ToolFailure, type ToolLog } from './failures.ts'
import { guardedAgent, type Resolve, refusalIn } from './guard.ts'
import { limitedTool } from './limited.ts'
import { compileSchema } from './schema.ts'
import { readSecret } from './secrets.ts'
import { leastSecret, type WebhookSettings } from './settings.ts'
import { signatureOf } from './signature.ts'
import type { ToolSource } from './source.ts'

/**
 * A tool that is an HTTP endpoint of the operator's.
 * @throws SchemaFault, ToolsFault
 */
export function webhook(name: string, settings: WebhookSettings, log: ToolLog, resolve: Resolve): ToolSource {
  const { description, input_schema, output_schema, max_bytes } = settings
  const secret = settings.secret ?? readSecret(settings.secret_file, leastSecret)
  const agent = guardedAgent(addressCheck(settings.allow_private || []), resolve)
  const checkOutput = output_schema && compileSchema(output_schema)

  async function invoke(call: ToolCall, context: ToolContext): Promise<ToolOutcome> {
    const { signal, stream, principal } = context
    const { id, input } = call
    const body = JSON.stringify({ id, tool: name, input, stream, principal, sent_at: new Date().toISOString() })
    const {
      statusCode,
      headers,
      body: answer,
    } = await request(settings.url, {
      dispatcher: agent,
      method: 'POST',
      headers: { ...settings.headers, ...ownHeaders(secret, id, body) },
      body,
      signal,
    }).catch((thrown: unknown) => {
      throw unreachable(thrown)
    })
    // What it tells after nobody reads it any more.
    answer.on('error', () => {})
    try {
      const limits = { maxBytes: max_bytes, checkOutput, onProgress: (line: string) => context.onProgress(line) }
      return await readAnswer({ status: statusCode, headers, body: answer }, limits)
    } catch (thrown) {
      throw thrown instanceof ToolFailure ? thrown : new ToolFailure('cut_off', codeOf(thrown))
    } finally {
      answer.destroy()
    }
  }

  const definition = { name, ...(description !== undefined && { description }), input_schema }
  const tool: Tool = limitedTool(
    {
      definition,
      checkInput: compileSchema(input_schema),
      approval: settings.approval,
      timeoutMs: settings.timeout_ms,
      maxConcurrent: settings.max_concurrent,
      log,
    },
    invoke,
  )
  return { tools: new Map([[name, tool]]), close: () => agent.destroy() }
}

function ownHeaders(secret: string | undefined, id: string, body: string): Record<string, string> {
  const timestamp = String(Math.floor(Date.now() / 1_000))
  return {
    'content-type': 'application/json',
    accept: 'application/json, application/x-ndjson, text/event-stream',
    'accept-encoding': 'identity',
    // Claude's ids are plain; a header could not hold anything else.
    'idempotency-key': encodeURIComponent(id),
    'sluice-timestamp': timestamp,
    ...(secret !== undefined && { 'sluice-signature': signatureOf(secret, timestamp, body) }),
  }
}

function unreachable(thrown: unknown): ToolFailure {
  const refused = refusalIn(thrown)
  return refused ? new ToolFailure('refused_address', refused.reason) : new ToolFailure('unreachable', codeOf(thrown))
}

function codeOf(thrown: unknown): string | undefined {
  return (thrown as NodeJS.ErrnoException | undefined)?.code
}
