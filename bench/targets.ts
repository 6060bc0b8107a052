import { fileURLToPath } from 'node:url'

/** Something that stands between the simulated Claude and the client. */
export interface Target {
  readonly name: string
  /** How it is started; without it, the client talks to the simulator itself. */
  start?(ports: { readonly own: number; readonly upstream: number }): Start
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  /** Fields of the request beyond model, max_tokens and messages. */
  readonly body: object
  /** What the last bytes of a whole stream hold. */
  readonly terminator: string
  /** In the first repeat only: it is there to compare by eye, not to be measured. */
  readonly once?: boolean
}

export interface Start {
  /** Program and arguments. */
  readonly command: readonly [string, ...string[]]
  readonly env: Readonly<Record<string, string>>
}

/** Every target runs on the Node that runs this. */
const node = process.execPath

export function sourceFile(path: string): string {
  return fileURLToPath(new URL(path, import.meta.url))
}

/** A Messages API, as Claude's own and as whatever hands it through speaks it. */
const messagesApi = {
  path: '/v1/messages',
  headers: { 'x-api-key': 'bench', 'anthropic-version': '2023-06-01' },
  body: { stream: true },
  terminator: 'message_stop',
}

/** What is measured. A further target is a further entry. */
export const targets: readonly Target[] = [
  { name: 'direct', ...messagesApi, once: true },
  {
    name: 'byte pipe',
    ...messagesApi,
    start: ({ own, upstream }) => ({
      command: [node, sourceFile('byte-pipe.ts')],
      env: { PORT: String(own), UPSTREAM: `http://127.0.0.1:${upstream}` },
    }),
  },
  {
    name: 'sluice',
    path: '/stream',
    headers: {},
    body: {},
    terminator: '[DONE]',
    start: ({ own, upstream }) => ({
      command: [node, sourceFile('../src/cli.ts'), 'serve'],
      env: {
        PORT: String(own),
        ANTHROPIC_API_KEY: 'bench',
        ANTHROPIC_BASE_URL: `http://127.0.0.1:${upstream}`,
        SLUICE_STREAMS__MAX_STREAMS: '20000',
        // As the pipe does it: else the streams of one test would go on for a while into the next.
        SLUICE_STREAMS__ON_DISCONNECT: 'cancel',
      },
    }),
  },
]
