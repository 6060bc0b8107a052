/** How much the server's tools may do for one stream; each limit ends it with an error of its own. */
export interface ToolLimits {
  /** Messages of Claude's in one answer, the first included. */
  readonly max_steps: number
  /** How long tools are at work together, in milliseconds; waiting for consent does not count. */
  readonly total_ms: number
  /** Of one result as JSON. */
  readonly max_result_bytes: number
  /** Of all results. */
  readonly max_total_result_bytes: number
  /** Output tokens after which no further step begins. */
  readonly max_tokens: number
  /** Tools at work at one time; other calls wait for their turn. */
  readonly max_parallel: number
  /** How long a call waits for consent before it is denied, in milliseconds. */
  readonly approval_ms: number
}
