import { setTimeout as delay } from 'node:timers/promises'
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio'

/** How long a server gets to end by itself once its input has. */
const endMs = 500

/** An MCP server that is a process of ours, and that is gone soon after it has been closed, whatever it does. */
export class ServerProcess extends StdioClientTransport {
  #ended: Promise<void> = Promise.resolve()

  /** Resolves when a process that has been told to end has. */
  get ended(): Promise<void> {
    return this.#ended
  }

  override close(): Promise<void> {
    // Closing forgets it; and what is closed again has been told already.
    if (this.pid !== null) this.#ended = this.#end(this.pid)
    return this.#ended
  }

  async #end(pid: number): Promise<void> {
    const ended = super.close().then(() => true)
    const hasEnded = await Promise.race([ended, delay(endMs, false, { ref: false })])
    if (hasEnded) return
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It has just ended.
    }
    await ended
  }
}
