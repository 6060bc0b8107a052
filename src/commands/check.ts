import { stringify } from 'yaml'
import type { Config } from '../config.ts'
import { toSluiceError } from '../core/errors.ts'
import { type Command, complain, noWords, print } from './command.ts'
import { redacted } from './redact.ts'
import { servedConfig } from './serve.ts'

/** How long whoever is asked gets to answer, in milliseconds. */
const answerMs = 5_000

export const check: Command = {
  name: 'check',
  summary: 'whether the configuration can work, and what it is in effect',
  options: {
    connect: {
      type: 'boolean',
      says: 'ask Claude and Redis, too, whether they let us in; nothing is generated or written',
    },
  },
  details: `Prints every setting with its value, without secrets. Exit code 78 with all faults if it cannot work, 1 if --connect finds
that somebody does not answer.`,
  examples: [['SLUICE_CONFIG=config/sluice.yaml sluice check --connect', 'before a deployment']],
  async run(args) {
    noWords(args)
    const config = servedConfig()
    const { apiKeys, ...settings } = config
    // Reads the files of keys that the settings name; certificates and tools are looked at when the server starts.
    const { openAuthentication } = await import('../authentication.ts')
    openAuthentication(config, silent)
    print(`# ANTHROPIC_API_KEY: ${apiKeys.length === 1 ? 'one key' : `${apiKeys.length} keys`}\n`)
    print(stringify(redacted(settings)))
    if (args.values['connect'] !== true) return
    const failures = (await Promise.all([askClaude(config), askRedis(config)])).flat()
    for (const failure of failures) complain(`sluice: ${failure}\n`)
    if (failures.length > 0) process.exitCode = 1
  },
}

const silent = { info() {}, error() {} }

/** @returns why Claude does not let us in, without what it was told of our keys */
async function askClaude({ apiKeys, upstream }: Config): Promise<string[]> {
  const { anthropicUpstream } = await import('../upstream/anthropic.ts')
  const asked = await Promise.all(
    apiKeys.map(async (key, index) => {
      const claude = anthropicUpstream({
        apiKeys: [key],
        baseUrl: upstream.base_url,
        connectTimeoutMs: upstream.connect_timeout_ms,
        maxEventBytes: upstream.max_event_bytes,
        forwardTimeoutMs: answerMs,
        log: { warn() {} },
        onKeyRefused() {},
      })
      try {
        await claude.forward('GET', '/v1/models?limit=1', {})
        return []
      } catch (thrown) {
        const { code, message } = toSluiceError(thrown)
        return [`ANTHROPIC_API_KEY ${index + 1}: ${code}: ${message}`]
      } finally {
        await claude.close()
      }
    }),
  )
  return asked.flat()
}

async function askRedis({ store }: Config): Promise<string[]> {
  if (store.url === undefined) return []
  const { createClient } = await import('@redis/client')
  const socket = { connectTimeout: answerMs, socketTimeout: answerMs, reconnectStrategy: false } as const
  const client = createClient({ url: store.url, socket })
  // What goes wrong is thrown by whatever waits for it; the event is only told beside that.
  client.on('error', () => {})
  try {
    await client.connect()
    await client.ping()
    return []
  } catch (error) {
    return [`store.url: ${error instanceof Error ? error.message : error}`]
  } finally {
    client.destroy()
  }
}
