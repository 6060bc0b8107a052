import { describeFault, sanitize } from '../core/errors.ts'
import type { Tool, ToolCall, ToolContext, ToolDefinition, ToolOutcome } from '../core/tools.ts'
import { ToolFailure, type ToolLog } from './failures.ts'
import type { SchemaCheck } from './schema.ts'
import { Slots } from './slots.ts'

/** What is the same for all kinds of tools. */
export interface ToolLimits {
  readonly definition: ToolDefinition
  readonly checkInput: SchemaCheck
  readonly approval: 'none' | 'required'
  readonly timeoutMs: number
  readonly maxConcurrent: number
  readonly log: ToolLog
}

/** What differs between them. @throws ToolFailure, and anything once the signal is aborted */
export type Invoke = (call: ToolCall, context: ToolContext) => Promise<ToolOutcome>

/** A tool that tells too much about how far it is is not listened to any longer. */
const maxProgressLines = 1_000

/** Of a tool's time, how much may go by in waiting for a slot: a call with too little left would be made for nothing. */
const waitingShare = 0.5

/** Puts the checks and limits that every tool has around the call. Waiting for a slot is part of the tool's time. */
export function limitedTool(limits: ToolLimits, invoke: Invoke): Tool {
  const { definition, checkInput, approval, timeoutMs, maxConcurrent, log } = limits
  const slots = new Slots(maxConcurrent)

  async function run(call: ToolCall, context: ToolContext): Promise<ToolOutcome> {
    const fault = checkInput(call.input)
    if (fault !== undefined) {
      return failed(`The input does not fit the tool's schema, and the call was not made: ${fault}.`)
    }
    const deadline = new AbortController()
    const timer = setTimeout(() => deadline.abort(new ToolFailure('timeout')), timeoutMs)
    const signal = AbortSignal.any([context.signal, deadline.signal])
    try {
      if (!(await slots.enter(timeoutMs * waitingShare, signal))) throw new ToolFailure('busy')
      try {
        const { stream, principal } = context
        return await invoke(call, { signal, stream, principal, onProgress: limitedProgress(context) })
      } finally {
        slots.leave()
      }
    } catch (thrown) {
      context.signal.throwIfAborted()
      return failed(failureOf(thrown, deadline.signal, context).message)
    } finally {
      clearTimeout(timer)
    }
  }

  /** Tells the log what went wrong, without anything that was said. */
  function failureOf(thrown: unknown, deadline: AbortSignal, { stream }: ToolContext): ToolFailure {
    const isOurs = thrown instanceof ToolFailure
    const failure = deadline.aborted ? deadline.reason : isOurs ? thrown : new ToolFailure('internal')
    const { reason, detail } = failure as ToolFailure
    const fault = reason === 'internal' ? { fault: describeFault(thrown) } : {}
    const fields = { tool: definition.name, stream, reason, ...(detail !== undefined && { detail }), ...fault }
    log.warn(fields, 'tool call failed')
    return failure
  }

  return { definition, approval, timeoutMs, run }
}

function limitedProgress(context: ToolContext): (line: string) => void {
  let left = maxProgressLines
  return (line) => {
    if (left-- > 0 && !context.signal.aborted) context.onProgress(sanitize(line))
  }
}

function failed(content: string): ToolOutcome {
  return { content, is_error: true }
}
