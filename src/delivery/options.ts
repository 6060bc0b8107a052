import type { Format, SmoothUnit } from '../core/format.ts'
import type { Sweep } from '../core/sweep.ts'

export interface ConnectionOptions {
  readonly format: Format
  /** Cut the text into these for reading, and pace them. */
  readonly smooth?: SmoothUnit | undefined
  /** The number of the last frame the client already has. */
  readonly after: number
  /** A frameless connection this long gets a heartbeat, in milliseconds. */
  readonly heartbeatMs: number
  /** A client that takes no byte this long, while some are waiting for it, is cut, in milliseconds. */
  readonly clientStallMs: number
  readonly sweep: Sweep
  /** A defect of ours ended this connection. */
  onFault(fault: unknown): void
}
