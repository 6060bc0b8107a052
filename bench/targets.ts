import { fileURLToPath } from 'node:url'
import { nginxCommand, type Ports } from './nginx.ts'

/** Something that stands between the simulated Claude and the client. */
export interface Target {
  readonly name: string
  /** How it is started; without it, the client talks to the upstream itself. */
  start?(place: Place): Start
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  /** Fields of the request beyond model, max_tokens and messages. */
  readonly body: object
  /** What the last bytes of a whole stream hold. */
  readonly terminator: string
  /** In the first repeat only: it is there to compare by eye, not to be measured. */
  readonly once?: true
  /** A program of the system that it needs. */
  readonly program?: string
  /** A Redis is started for it. */
  readonly redis?: true
  /** Names of tests that its process has gone through before each of those that count. */
  readonly after?: readonly string[]
}

export interface Place extends Ports {
  /** Where it may write what it needs to. */
  readonly folder: string
  readonly redis: number | undefined
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

/** Servers of the benchmark, in a file each. */
const own =
  (file: string) =>
  ({ own, upstream }: Place): Start => ({
    command: [node, sourceFile(file)],
    env: { PORT: String(own), UPSTREAM: `http://127.0.0.1:${upstream}` },
  })

/** A Messages API, as Claude's own and as whatever hands it through speaks it. */
const messagesApi = {
  path: '/v1/messages',
  headers: { 'x-api-key': 'bench', 'anthropic-version': '2023-06-01' },
  body: { stream: true },
  terminator: 'message_stop',
}

/** What the load itself takes. */
export const direct: Target = { name: 'direct', ...messagesApi, once: true }

/** The yardstick. */
export const bytePipe: Target = { name: 'byte pipe', ...messagesApi, start: own('byte-pipe.ts') }

export const nginx: Target = {
  name: 'nginx',
  ...messagesApi,
  program: 'nginx',
  start: (place) => ({ command: nginxCommand(place, place.folder), env: {} }),
}

export const diy: Target = {
  name: 'do it yourself',
  path: '/chat',
  headers: {},
  body: {},
  terminator: '[DONE]',
  start: own('diy.ts'),
}

export const sluice: Target = sluiceWith({})

function sluiceWith(settings: Readonly<Record<string, string>>): Target {
  return {
    name: 'sluice',
    path: '/stream',
    headers: {},
    body: {},
    terminator: '[DONE]',
    start: ({ own, upstream, redis }) => ({
      command: [node, sourceFile('../src/cli.ts'), 'serve'],
      env: {
        PORT: String(own),
        ANTHROPIC_API_KEY: 'bench',
        ANTHROPIC_BASE_URL: `http://127.0.0.1:${upstream}`,
        SLUICE_STREAMS__MAX_STREAMS: '20000',
        // As the pipe does it: else the streams of one test would go on for a while into the next.
        SLUICE_STREAMS__ON_DISCONNECT: 'cancel',
        ...(redis !== undefined && { REDIS_URL: `redis://127.0.0.1:${redis}` }),
        ...settings,
      },
    }),
  }
}

/** In each format that `/stream` can answer in; `json` is the one it answers in when nothing is said. */
export const formats: readonly Target[] = [
  { ...sluice, name: 'json' },
  ...(['text', 'openai', 'ai-sdk'] as const).map((name) => ({ ...sluice, name, body: { format: name } })),
  { ...sluice, name: 'ag-ui', body: { format: 'ag-ui' }, terminator: 'RUN_FINISHED' },
  { ...sluice, name: 'anthropic', body: { format: 'anthropic' }, terminator: 'message_stop' },
]

export const inMemory: Target = { ...sluice, name: 'memory' }
/** What a reader gets, Redis has: the default when there is one. */
export const durable: Target = { ...sluice, name: 'redis durable', redis: true, program: 'redis-server' }

/** The same in a process that has carried other load before. */
export function warmed(target: Target): Target {
  return { ...target, name: `${target.name} warmed`, after: ['full speed', 'short streams'] }
}

/** Forgets answers soon, so that those it keeps do not hide what it loses. */
export const forgetful: Target = { ...sluiceWith({ SLUICE_STREAMS__RETENTION_MS: '10000' }), name: 'sluice forgetful' }
