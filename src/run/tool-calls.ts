import { Turns } from '../core/at-once.ts'
import { SluiceError, sanitize } from '../core/errors.ts'
import type { ToolDecisionEvent, ToolResultEvent } from '../core/events.ts'
import type { StreamLog } from '../core/ports.ts'
import type { Tool, Toolbox, ToolCall, ToolDecision, ToolOutcome } from '../core/tools.ts'
import type { Approved } from './approvals.ts'
import type { ServerCall, Step } from './steps.ts'
import type { ToolLimits } from './tool-limits.ts'
import { ToolRound } from './tool-round.ts'
import { WorkClock } from './work-clock.ts'

export interface ToolCallsOptions {
  readonly log: StreamLog
  readonly toolbox: Toolbox
  readonly limits: ToolLimits
  /** Another process has begun the answer: which calls wait is known once its log has been looked at. */
  readonly taken: unknown
  /** A tool failed in a way that none should. */
  onFault(fault: unknown): void
}

/** Lines of one call, and of all calls of a stream, beyond these are dropped. */
const maxProgressLines = 100
const maxStreamLines = 2_000

/** Tools keep to their time by themselves, and say so in the log; this is for those that do not. */
const latenessMs = 50

/** Makes the calls of one stream, a step's at a time, and tells the log of them. */
export class ToolCalls {
  readonly #options: ToolCallsOptions
  readonly #clock: WorkClock
  readonly #turns: Turns
  /** Of all results. */
  #bytes = 0
  /** Lines about how far tools are that there is room for. */
  #linesLeft = maxStreamLines
  /** The step under way. */
  #round: ToolRound | undefined
  /** Resolves once it is known which calls wait for a decision. */
  readonly #looked = Promise.withResolvers<void>()

  constructor(options: ToolCallsOptions) {
    this.#options = options
    this.#clock = new WorkClock(options.limits.total_ms)
    this.#turns = new Turns(options.limits.max_parallel)
    if (!options.taken) this.noneWaits()
  }

  /** Another process has made these calls. */
  countEarlier(steps: readonly Step[]): void {
    for (const { results } of steps) for (const { content } of results.values()) this.#bytes += sizeOf(content)
  }

  /**
   * Gives every call of a step its result: in the log, each as soon as it is there.
   * @param signal ends it at once, whatever a tool makes of its own signal
   * @returns whether there was any without
   * @throws SluiceError when a limit is reached; what `signal` was aborted with
   */
  async answer(step: Step | undefined, signal: AbortSignal): Promise<boolean> {
    const open = step?.calls.filter(({ id }) => !step.results.has(id)) ?? []
    if (!step || open.length === 0) {
      this.noneWaits()
      return false
    }
    signal.throwIfAborted()
    const { log, limits } = this.#options
    const round: ToolRound = new ToolRound(log, limits.approval_ms, (call, outcome, decision) =>
      this.#finish(call, round, outcome, decision),
    )
    this.#round = round
    this.#clock.onOver = () => round.end(new SluiceError('tool_time_exceeded'))
    const stop = () => round.end(signal.reason)
    signal.addEventListener('abort', stop)
    try {
      const answered = Promise.all(open.map((call) => this.#answer(call, step, round)))
      this.#looked.resolve()
      await Promise.race([answered, round.over])
      return true
    } finally {
      signal.removeEventListener('abort', stop)
      this.#round = undefined
      await round.close()
    }
  }

  /** @returns whether the call waited for a decision */
  async decide(call: string, decision: ToolDecision): Promise<boolean> {
    await this.#looked.promise
    return (await this.#round?.approvals.decide(call, decision)) ?? false
  }

  /** The log tells of no call that waits. */
  noneWaits(): void {
    this.#looked.resolve()
  }

  async #answer(call: ServerCall, step: Step, round: ToolRound): Promise<unknown> {
    const { id, name, input } = call
    const tool = this.#options.toolbox.find(name)
    if (!input) return this.#finish(call, round, failed('The input of this call is no JSON object: call again.'))
    if (!tool) return this.#finish(call, round, failed('This tool is not available at the moment.'))
    const decided = step.decisions.get(id)
    // The result goes into the log with any other decision, but a log that is copied to Redis in parts may end between.
    if (decided && decided.decision !== 'approved') return this.#finish(call, round, failed('This call was not made.'))
    const asked: ToolCall = { id, name, input }
    const approved = await this.#consent(asked, tool, step, round)
    if (!approved) return undefined
    const edited = approved.input
    const outcome = await this.#make(edited ? { ...asked, input: edited } : asked, tool, round)
    return this.#finish(call, round, edited ? withNote(outcome, edited) : outcome)
  }

  /** @returns `undefined` when the call has got its result without the tool */
  #consent(call: ToolCall, tool: Tool, step: Step, round: ToolRound): Promise<Approved | undefined> | Approved {
    const decided = step.decisions.get(call.id)
    if (decided) return { decision: 'approve', input: decided.input }
    if (tool.approval === 'none') return { decision: 'approve' }
    return round.approvals.ask(call, step.approvals.get(call.id)?.expires_at)
  }

  #make(call: ToolCall, tool: Tool, round: ToolRound): Promise<ToolOutcome> {
    return this.#turns.take(async () => {
      round.throwIfOver()
      const controller = new AbortController()
      const { promise: late, resolve } = Promise.withResolvers<ToolOutcome>()
      const timer = setTimeout(() => {
        controller.abort()
        resolve(failed('The tool did not answer in time.'))
      }, tool.timeoutMs + latenessMs)
      round.running.add(controller)
      this.#clock.begin()
      try {
        return await Promise.race([this.#run(call, tool, round, controller.signal), late, round.over])
      } finally {
        this.#clock.end()
        clearTimeout(timer)
        round.running.delete(controller)
      }
    })
  }

  async #run(call: ToolCall, tool: Tool, round: ToolRound, signal: AbortSignal): Promise<ToolOutcome> {
    const { id: stream, principal } = this.#options.log
    try {
      return await tool.run(call, { signal, stream, principal, onProgress: this.#progressOf(call, round) })
    } catch (fault) {
      if (!signal.aborted) this.#options.onFault(fault)
      return failed('The tool failed.')
    }
  }

  /** @returns whether the log has it */
  async #finish(
    call: ServerCall,
    round: ToolRound,
    outcome: ToolOutcome,
    decided?: ToolDecisionEvent,
  ): Promise<boolean> {
    const { content, is_error } = outcome
    const { max_result_bytes, max_total_result_bytes } = this.#options.limits
    const bytes = sizeOf(content)
    this.#bytes += bytes
    if (bytes > max_result_bytes || this.#bytes > max_total_result_bytes) throw new SluiceError('tool_output_exceeded')
    const result: ToolResultEvent = { type: 'tool_result', id: call.id, name: call.name, content, is_error }
    return round.tell(...(decided ? [decided] : []), result)
  }

  #progressOf({ id, name }: ToolCall, round: ToolRound): (line: string) => void {
    let lines = 0
    return (line) => {
      const text = sanitize(line)
      if (text === '' || lines++ >= maxProgressLines || this.#linesLeft-- <= 0) return
      // A log that fails has ended the round.
      round.tell({ type: 'tool_progress', id, name, text }).catch(() => {})
    }
  }
}

/** What a value takes up as JSON, in bytes. */
export function sizeOf(value: string | object): number {
  return Buffer.byteLength(JSON.stringify(value))
}

function failed(content: string): ToolOutcome {
  return { content, is_error: true }
}

/** Claude's own words stay as they are, so it has to be told what was done instead. */
function withNote({ content, is_error }: ToolOutcome, input: object): ToolOutcome {
  const note = { type: 'text', text: `The user changed the input of this call to ${JSON.stringify(input)}` }
  const rest = typeof content === 'string' ? (content === '' ? [] : [{ type: 'text', text: content }]) : content
  return { content: [note, ...rest], is_error }
}
