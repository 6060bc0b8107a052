import type { Tool } from '../core/tools.ts'

/** What one entry of the configuration gives. */
export interface ToolSource {
  /** By the names that Claude knows them by; what is off at the moment is not in it. */
  readonly tools: ReadonlyMap<string, Tool>
  close(): Promise<void>
}
