/** A tool as the Messages API takes it. */
export interface ToolDefinition {
  readonly name: string
  readonly description?: string
  readonly input_schema: { readonly type: 'object'; readonly [key: string]: unknown }
}

/** A call as Claude made it, its input whole and parsed. */
export interface ToolCall {
  /** Claude's own; the same call, made again after a fault, has the same. */
  readonly id: string
  readonly name: string
  readonly input: Readonly<Record<string, unknown>>
}

/** What a tool answers: the content of a `tool_result` block, and whether it tells of a failure. */
export interface ToolOutcome {
  readonly content: string | readonly object[]
  readonly is_error: boolean
}

/** What somebody says to a call that waits for his consent: yes, no, or what the tool would have answered. */
export type ToolDecision =
  | { readonly decision: 'approve'; readonly input?: ToolCall['input'] | undefined }
  | { readonly decision: 'deny'; readonly reason?: string | undefined }
  | ({ readonly decision: 'answer' } & ToolOutcome)

/** For whom a tool runs, and how it is told to stop. */
export interface ToolContext {
  /** The tool's time is over, or nobody wants its result any more. */
  readonly signal: AbortSignal
  readonly stream: string
  readonly principal: string
  /** A line for people about how far it is. */
  onProgress(line: string): void
}

/** Something that runs on the server's side when Claude calls it. */
export interface Tool {
  readonly definition: ToolDefinition
  /** `required`: somebody has to agree to each call. */
  readonly approval: 'none' | 'required'
  readonly timeoutMs: number
  /**
   * What goes wrong at the tool is an outcome that Claude is told; sentences in it come from here or from the tool,
   * never from an exception.
   * @throws only what `signal` was aborted with
   */
  run(call: ToolCall, context: ToolContext): Promise<ToolOutcome>
}

/** The tools that the configuration declares, as they are now. */
export interface Toolbox {
  /** `undefined` when there is none of that name, or it is off at the moment. */
  find(name: string): Tool | undefined
  /** All that can be offered now. */
  names(): readonly string[]
  close(): Promise<void>
}
