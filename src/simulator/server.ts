import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import { type Answer, answerTo, toMessage } from './answer.ts'
import type { SimulatedRequest } from './compose.ts'
import { refusalOf } from './continuation.ts'
import { errorEvent, perform, type Step } from './faults.ts'
import { listModels, models } from './models.ts'
import { Player } from './player.ts'
import { loadRecordings } from './recordings.ts'
import { faultsFor, parseScenario, type Scenario } from './scenario.ts'

export interface SimulatorOptions {
  readonly port?: number
  readonly host?: string
  /** What is done with requests whose model name says nothing of it. */
  readonly defaults?: Scenario
  /** Recordings by name; by default those that come with the simulator. */
  readonly recordings?: ReadonlyMap<string, Buffer>
}

/** One request, as the simulator saw it. */
export interface SeenRequest {
  readonly method: string
  readonly path: string
  /** Behind the `?`. */
  readonly query: string
  readonly headers: IncomingMessage['headers']
  readonly body: unknown
  /** Monotonic milliseconds at which the connection of an unfinished answer was closed by the other side. */
  abortedAt?: number
  /** The answer has been sent to its end. */
  finished: boolean
}

/** Errors that say that the other side is gone, which `abortedAt` tells. */
const hangUps: ReadonlySet<string> = new Set(['ABORT_ERR', 'ECONNRESET', 'EPIPE'])

const bodySchema = z.looseObject({
  model: z.string(),
  max_tokens: z.int().min(0),
  messages: z.array(z.looseObject({ role: z.string(), content: z.unknown() })).min(1),
  stream: z.boolean().optional(),
})

/** Requests kept for `requests`: tests look at the last few, a long demo must not grow. */
const keptRequests = 20_000

/** A simulated Claude on a real socket. */
export class Simulator {
  readonly requests: SeenRequest[] = []
  readonly #server: Server
  readonly #options: SimulatorOptions
  readonly #recordings: ReadonlyMap<string, Buffer>
  readonly #callsByModel = new Map<string, number>()
  #counter = 0
  /** Answers that are being sent. */
  open = 0

  private constructor(options: SimulatorOptions) {
    this.#options = options
    this.#recordings = options.recordings ?? loadRecordings()
    this.#server = createServer({ noDelay: true, requestTimeout: 0 }, (request, response) => {
      this.#serve(request, response).catch((error: unknown) => {
        response.destroy()
        if (!hangUps.has((error as NodeJS.ErrnoException).code ?? '')) process.emitWarning(error as Error)
      })
    })
  }

  static async start(options: SimulatorOptions = {}): Promise<Simulator> {
    const simulator = new Simulator(options)
    simulator.#server.listen({ port: options.port ?? 0, host: options.host ?? '127.0.0.1', backlog: 4096 })
    await once(simulator.#server, 'listening')
    return simulator
  }

  get url(): string {
    const { address, port } = this.#server.address() as AddressInfo
    return `http://${address}:${port}`
  }

  async close(): Promise<void> {
    this.#server.close()
    this.#server.closeAllConnections()
    await once(this.#server, 'close')
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [path = '/', query = ''] = (request.url ?? '/').split('?')
    const text = await readBody(request)
    response.setHeader('request-id', `req_sim_${++this.#counter}`)
    response.setHeader('anthropic-organization-id', '00000000-0000-4000-8000-000000000000')
    if (path === '/stats') return sendJson(response, 200, { requests: this.requests.length, open: this.open })
    const seen: SeenRequest = {
      method: request.method ?? '',
      path,
      query,
      headers: request.headers,
      body: parseJson(text),
      finished: false,
    }
    if (this.requests.push(seen) > keptRequests) this.requests.shift()
    if (!isAuthorized(request)) return sendError(response, { status: 401, message: 'invalid x-api-key' })
    const [, name, id] = /^\/v1\/(messages|messages\/count_tokens|models(?:\/([^/]+))?)$/.exec(path) ?? []
    if (name === undefined) return sendError(response, { status: 404, message: `Not found: ${path}` })
    if (request.method !== (name.startsWith('models') ? 'GET' : 'POST')) {
      return sendError(response, { status: 405, error: 'invalid_request_error' })
    }
    if (name === 'messages') return this.#messages(seen, response)
    if (name === 'messages/count_tokens') return countTokens(seen.body, response)
    if (id === undefined) return sendJson(response, 200, listModels(new URLSearchParams(query)))
    const model = models.find((each) => each.id === id)
    if (model) sendJson(response, 200, model)
    else sendError(response, { status: 404, message: `model: ${id}` })
  }

  async #messages(seen: SeenRequest, response: ServerResponse): Promise<void> {
    const parsed = bodySchema.safeParse(seen.body)
    if (!parsed.success) return sendError(response, { status: 400, message: z.prettifyError(parsed.error) })
    const body = parsed.data
    const request = body as unknown as SimulatedRequest
    let scenario: Scenario
    try {
      scenario = this.#scenarioFor(body.model)
    } catch (error) {
      return sendError(response, {
        status: 400,
        message: error instanceof z.ZodError ? z.prettifyError(error) : String(error),
      })
    }
    const { recording: name } = scenario
    const recording = name === undefined ? undefined : this.#recordings.get(name)
    if (name !== undefined && !recording) {
      return sendError(response, { status: 404, message: `no recording ${name}` })
    }
    const refusal = refusalOf(request, scenario)
    if (refusal !== undefined) return sendError(response, { status: 400, message: refusal })
    const answer = answerTo(request, scenario, `msg_sim_${this.#counter}`, recording)
    if (!answer) return sendError(response, { status: 400, message: 'the quoted end is not in the answer to this' })
    if (recording && scenario.pace && !answer.continues && !answer.waits) {
      return sendError(response, { status: 400, message: `pace: ${name} has no times` })
    }
    const performed = faultsFor(scenario, this.#count(body.model, scenario), answer)
    await this.#answer(answer, body.stream === true, performed, seen, response)
  }

  async #answer(
    answer: Answer,
    streamed: boolean,
    scenario: Scenario,
    seen: SeenRequest,
    response: ServerResponse,
  ): Promise<void> {
    if (scenario.refuse) return void response.socket?.resetAndDestroy()
    const gone = this.#watch(seen, response)
    const { headers_ms = answer.headersMs } = scenario
    if (headers_ms) await delay(headers_ms, undefined, { signal: gone })
    if (scenario.status) return sendError(response, scenario)
    if (!streamed) return sendJson(response, 200, toMessage(answer.events))
    await this.#play(response, perform(answer, scenario), scenario, gone)
  }

  #scenarioFor(model: string): Scenario {
    const { defaults } = this.#options
    const at = model.indexOf('?')
    return at < 0 ? (defaults ?? {}) : parseScenario(model.slice(at + 1), defaults)
  }

  /** Which request of this model name it is, counted from 1, where the scenario wants to know. */
  #count(model: string, { fail_first }: Scenario): number {
    if (fail_first === undefined) return 0
    const calls = (this.#callsByModel.get(model) ?? 0) + 1
    this.#callsByModel.set(model, calls)
    return calls
  }

  /** Notes when the other side hangs up on an answer. */
  #watch(seen: SeenRequest, response: ServerResponse): AbortSignal {
    this.open++
    const gone = new AbortController()
    response.on('close', () => {
      this.open--
      if (response.writableFinished) seen.finished = true
      else seen.abortedAt = performance.now()
      gone.abort()
    })
    return gone.signal
  }

  async #play(response: ServerResponse, steps: Iterable<Step>, scenario: Scenario, gone: AbortSignal): Promise<void> {
    response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      ...(scenario.encoding && { 'content-encoding': scenario.encoding }),
    })
    response.flushHeaders()
    await new Player(response, scenario, gone).play(steps)
  }
}

function countTokens(body: unknown, response: ServerResponse): void {
  const { data, error } = bodySchema.omit({ max_tokens: true }).safeParse(body)
  if (error) sendError(response, { status: 400, message: z.prettifyError(error) })
  else sendJson(response, 200, { input_tokens: Math.ceil(JSON.stringify(data.messages).length / 4) })
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Both ways to send a key that Anthropic takes; any key will do. */
function isAuthorized({ headers }: IncomingMessage): boolean {
  return Boolean(headers['x-api-key']) || /^Bearer \S/.test(headers.authorization ?? '')
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

function sendError(response: ServerResponse, scenario: Scenario): void {
  if (scenario.retry_after) response.setHeader('retry-after', scenario.retry_after)
  if (scenario.location) response.setHeader('location', scenario.location)
  sendJson(response, scenario.status ?? 500, errorEvent(scenario))
}
