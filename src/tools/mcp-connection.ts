import { setTimeout as delay } from 'node:timers/promises'
import { Client, type Tool as McpTool, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { addressCheck } from './addresses.ts'
import { guardedAgent, type Resolve } from './guard.ts'
import { cappedFetch } from './mcp-fetch.ts'
import { ServerProcess } from './mcp-process.ts'
import { readSecret } from './secrets.ts'
import type { McpSettings } from './settings.ts'

export interface McpEvents {
  /** The tools may be others than before, or the server may be gone: they are to be listed again. */
  onDoubt(): void
  onLost(): void
}

/** An MCP server that has been connected to. */
export interface McpConnection {
  readonly client: Client
  /** All tools that it has. */
  list(): Promise<readonly McpTool[]>
  close(): Promise<void>
}

interface Way {
  readonly transport: StreamableHTTPClientTransport | ServerProcess
  /** Aborted when there is no use in it any more. */
  readonly failed: AbortSignal
  /** Takes leave of the server, for as long as it likes. */
  leave(client: Client): Promise<void>
  /** Resolves when nothing is left of it. */
  destroy(): Promise<void>
}

const handshakeMs = 10_000
/** A list that takes longer is one of a server that is gone: over HTTP nothing else would tell. */
const listMs = 5_000
const leaveMs = 500
const followPauseMs = 1_000

const listBytes = 4 * 1024 * 1024

/**
 * @param signal ends an attempt at once
 * @throws ToolsFault when there is a file of a token that cannot be read, and what the SDK throws
 */
export async function connectMcp(
  settings: McpSettings,
  resolve: Resolve,
  events: McpEvents,
  signal?: AbortSignal,
): Promise<McpConnection> {
  const { transport, failed, leave, destroy } =
    settings.url === undefined ? toProcess(settings) : toUrl(settings, resolve)
  const client = new Client(
    { name: 'sluice', version: '1' },
    {
      // Over stdio the way of 2025, which all servers know: some of them end when they are asked anything else first.
      versionNegotiation: { mode: settings.url === undefined ? 'legacy' : 'auto' },
      listChanged: { tools: { autoRefresh: false, onChanged: () => events.onDoubt() } },
    },
  )

  // The SDK's first question to a server heeds no signal, but no transport that is closed is waited for.
  const cut = () => void transport.close().catch(() => {})
  signal?.addEventListener('abort', cut)
  failed.addEventListener('abort', cut)

  async function close(): Promise<void> {
    signal?.removeEventListener('abort', cut)
    await Promise.race([leave(client).catch(() => {}), delay(leaveMs, undefined, { ref: false })])
    await destroy()
  }

  try {
    signal?.throwIfAborted()
    await client.connect(transport, { timeout: handshakeMs })
  } catch (thrown) {
    await close()
    throw failed.aborted ? failed.reason : thrown
  }
  client.onclose = () => events.onLost()
  client.onerror = () => events.onDoubt()
  void follow(client, events)
  return {
    client,
    list: async () => (await client.listTools({}, { cacheMode: 'refresh', timeout: listMs })).tools,
    close,
  }
}

function toProcess({ command = '', args, env, max_bytes }: McpSettings): Way {
  // It sees its own environment and the few names that every program needs: never Sluice's keys.
  const transport = new ServerProcess({
    command,
    args,
    env,
    stderr: 'ignore',
    maxBufferSize: messageBytes(max_bytes),
  })
  return {
    transport,
    failed: new AbortController().signal,
    leave: (client) => client.close(),
    destroy: () => transport.ended,
  }
}

function toUrl(settings: McpSettings, resolve: Resolve): Way {
  const { url = '', headers, token, token_file, max_bytes, allow_private } = settings
  const bearer = token ?? readSecret(token_file)
  const agent = guardedAgent(addressCheck(allow_private || []), resolve)
  const failure = new AbortController()
  const transport = new StreamableHTTPClientTransport(new URL(url), {
    fetch: cappedFetch(agent, messageBytes(max_bytes), (fault) => failure.abort(fault)),
    requestInit: { headers: { ...headers, ...(bearer !== undefined && { authorization: `Bearer ${bearer}` }) } },
    onInsufficientScope: 'throw',
  })
  return {
    transport,
    failed: failure.signal,
    async leave(client) {
      await transport.terminateSession().catch(() => {})
      await client.close()
    },
    destroy: () => agent.destroy(),
  }
}

/** One message holds at most twice what a result may have, as text and structured, and has room for a list of tools. */
function messageBytes(resultBytes: number): number {
  return listBytes + 2 * resultBytes
}

/** Servers of 2026 tell of changes in a stream of its own, which may end before the connection does. */
async function follow(client: Client, { onDoubt }: McpEvents): Promise<void> {
  try {
    let subscription = client.autoOpenedSubscription
    while (subscription && (await subscription.closed) !== 'local') {
      await delay(followPauseMs, undefined, { ref: false })
      subscription = await client.listen(subscription.honoredFilter)
      onDoubt()
    }
  } catch {
    onDoubt()
  }
}
