import { setTimeout as delay } from 'node:timers/promises'
import { ProtocolError, SdkError, SdkErrorCode } from '@modelcontextprotocol/client'
import { sanitize } from '../core/errors.ts'
import type { Tool, ToolCall, ToolContext, ToolOutcome } from '../core/tools.ts'
import { ToolFailure, type ToolLog, ToolsFault } from './failures.ts'
import { type Resolve, refusalIn } from './guard.ts'
import { connectMcp, type McpConnection } from './mcp-connection.ts'
import { McpOffer } from './mcp-offer.ts'
import { outcomeOf } from './mcp-results.ts'
import { readSecret } from './secrets.ts'
import type { McpSettings } from './settings.ts'
import type { ToolSource } from './source.ts'

/** How long the start of Sluice waits for the tools of a server. Those of a slower one come later. */
const startMs = 5_000

/**
 * The tools of an MCP server. It may be down: its tools are then off, until it is there.
 * @throws ToolsFault
 */
export async function openMcp(
  name: string,
  settings: McpSettings,
  log: ToolLog,
  resolve: Resolve,
): Promise<ToolSource> {
  // Read for each connection, as tokens are renewed; here to be refused at start.
  readSecret(settings.token_file)
  const server = new McpServer(name, settings, log, resolve)
  await Promise.race([server.tried, delay(startMs, undefined, { ref: false })])
  return server
}

const firstWaitMs = 250
const longestWaitMs = 30_000
/** A server that was there for less is one that keeps dying. */
const steadyMs = 10_000
/** Between two lists that a server asks for. */
const listPauseMs = 500

/** Keeps connected to one server, and follows what tools it has. */
class McpServer implements ToolSource {
  tools: ReadonlyMap<string, Tool> = new Map()
  /** The first attempt to connect has ended, well or not. */
  readonly tried: Promise<void>
  readonly #name: string
  readonly #settings: McpSettings
  readonly #log: ToolLog
  readonly #resolve: Resolve
  readonly #offer: McpOffer
  readonly #closing = new AbortController()
  readonly #kept: Promise<void>
  #connection: McpConnection | undefined
  /** Ends what the connection is held for. */
  #lose: () => void = () => {}
  #listing = false
  #listAgain = false

  constructor(name: string, settings: McpSettings, log: ToolLog, resolve: Resolve) {
    this.#name = name
    this.#settings = settings
    this.#log = log
    this.#resolve = resolve
    this.#offer = new McpOffer(name, settings, log, (tool) => (call, context) => this.#call(tool, call, context))
    const { promise, resolve: onTried } = Promise.withResolvers<void>()
    this.tried = promise
    this.#kept = this.#keep(onTried)
  }

  async close(): Promise<void> {
    this.#closing.abort()
    this.#lose()
    await this.#kept
  }

  async #keep(onTried: () => void): Promise<void> {
    const { signal } = this.#closing
    let wait = firstWaitMs
    let isTold = false
    while (!signal.aborted) {
      const begun = performance.now()
      const fault = await this.#holdConnection(() => {
        isTold = false
        onTried()
      })
      onTried()
      if (performance.now() - begun > steadyMs) wait = firstWaitMs
      if (signal.aborted) return
      if (!isTold) this.#log.warn({ server: this.#name, ...fault }, 'mcp server is gone, its tools are off')
      isTold = true
      // Replicas would all come at once to a server that has just begun.
      const pause = wait * (0.5 + Math.random() / 2)
      await delay(pause, undefined, { signal, ref: false }).catch(() => {})
      wait = Math.min(wait * 2, longestWaitMs)
    }
  }

  /** Resolves when the connection is over, with what the log is to tell about it. */
  async #holdConnection(onReady: () => void): Promise<{ reason: string; detail?: string }> {
    const { promise: lost, resolve: lose } = Promise.withResolvers<void>()
    this.#lose = lose
    let connection: McpConnection | undefined
    try {
      const events = { onDoubt: () => this.#doubt(), onLost: lose }
      connection = await connectMcp(this.#settings, this.#resolve, events, this.#closing.signal)
      this.tools = this.#offer.from(await connection.list())
      this.#connection = connection
      this.#log.info({ server: this.#name, tools: [...this.tools.keys()] }, 'mcp server is there')
      onReady()
      await (this.#closing.signal.aborted ? undefined : lost)
      return { reason: 'lost' }
    } catch (thrown) {
      return faultOf(thrown)
    } finally {
      this.tools = new Map()
      this.#connection = undefined
      await connection?.close()
    }
  }

  /** Lists the tools again, in a while if that was just done; a server that cannot is lost. */
  #doubt(): void {
    this.#listAgain = true
    if (!this.#listing) void this.#listWhileAsked()
  }

  async #listWhileAsked(): Promise<void> {
    this.#listing = true
    while (this.#listAgain && this.#connection) {
      this.#listAgain = false
      const connection = this.#connection
      try {
        const tools = this.#offer.from(await connection.list())
        if (connection === this.#connection) this.tools = tools
      } catch {
        if (connection === this.#connection) this.#lose()
        break
      }
      await delay(listPauseMs, undefined, { ref: false })
    }
    this.#listing = false
  }

  async #call(tool: string, { input }: ToolCall, context: ToolContext): Promise<ToolOutcome> {
    const { timeout_ms, max_bytes } = this.#settings
    if (!this.#connection) throw new ToolFailure('unreachable')
    try {
      const result = await this.#connection.client.callTool(
        { name: tool, arguments: { ...input } },
        {
          signal: context.signal,
          // The signal is the one that ends it.
          timeout: timeout_ms + 1_000,
          onprogress: ({ message, progress, total }) =>
            context.onProgress(message ?? `${progress}${total === undefined ? '' : ` of ${total}`}`),
        },
      )
      return outcomeOf(result, max_bytes)
    } catch (thrown) {
      if (!context.signal.aborted && !(thrown instanceof ProtocolError)) this.#doubt()
      throw failureOf(thrown)
    }
  }
}

function failureOf(thrown: unknown): ToolFailure {
  if (thrown instanceof ToolFailure) return thrown
  if (thrown instanceof ProtocolError) return new ToolFailure('refused', String(thrown.code), sanitize(thrown.message))
  const { reason, detail } = faultOf(thrown)
  const isCut = thrown instanceof SdkError && thrown.code === SdkErrorCode.ConnectionClosed
  return new ToolFailure(isCut ? 'cut_off' : reason === 'refused_address' ? reason : 'unreachable', detail)
}

/** Why a server cannot be used, from what the SDK has thrown; its messages quote what servers say. */
export function faultOf(thrown: unknown): { reason: string; detail?: string } {
  const refused = refusalIn(thrown)
  if (refused) return { reason: 'refused_address', detail: refused.reason }
  if (thrown instanceof ToolFailure) return { reason: thrown.reason }
  if (thrown instanceof ToolsFault) return { reason: thrown.message }
  const detail = codesIn(thrown).at(-1)
  return { reason: 'unreachable', ...(detail !== undefined && { detail }) }
}

/** From what was thrown down to its first cause: statuses of HTTP, and codes of the SDK and of sockets. */
function codesIn(thrown: unknown): string[] {
  if (!(thrown instanceof Error)) return []
  const { code, data, cause } = thrown as Error & { code?: unknown; data?: { status?: unknown } }
  return [code, data?.status, ...codesIn(cause)].filter((each) => each !== undefined).map(String)
}
