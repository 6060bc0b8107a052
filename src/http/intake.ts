import type { FastifyReply, FastifyRequest } from 'fastify'
import { SluiceError } from '../core/errors.ts'
import { type Asking, deliveryFor, type Permitted, type Policy, permitted } from '../core/policy.ts'
import type { Delivery } from '../core/preset.ts'
import type { MessageRequest } from '../core/request.ts'
import type { Toolbox } from '../core/tools.ts'
import type { TraceContext } from '../core/trace.ts'
import type { Decision, Limiter } from '../limits/limiter.ts'
import { rateLimitHeaders } from '../limits/standings.ts'
import type { RunOptions } from '../run/context.ts'
import { offer } from '../run/offer.ts'
import type { Begun, Streams } from '../run/streams.ts'
import { headerOf, keyOf } from './headers.ts'

/** A stream that a route wants, but for what the HTTP request says of itself. */
export interface Wanted
  extends Omit<RunOptions, 'principal' | 'key' | 'requestId' | 'taken' | 'trace' | 'request' | 'preset' | 'tools'> {
  readonly permitted: Permitted
}

export interface IntakeOptions {
  readonly limiter: Limiter | undefined
  /** The server's tools that are offered where a preset says nothing of them. */
  readonly tools: readonly string[]
  readonly toolbox: Toolbox
  /** Places a run in a trace, the caller's if it names one; without it there are none. */
  readonly beginTrace?: ((traceparent: string | undefined) => TraceContext) | undefined
}

/** The one way from a request to a stream, whatever API the client speaks: nothing that costs anything goes around it. */
export class Intake {
  readonly #streams: Streams
  readonly #policy: Policy
  readonly #limiter: Limiter | undefined
  readonly #tools: readonly string[]
  readonly #toolbox: Toolbox
  readonly #beginTrace: IntakeOptions['beginTrace']

  constructor(streams: Streams, policy: Policy, { limiter, tools, toolbox, beginTrace }: IntakeOptions) {
    this.#streams = streams
    this.#policy = policy
    this.#limiter = limiter
    this.#tools = tools
    this.#toolbox = toolbox
    this.#beginTrace = beginTrace
  }

  /**
   * What becomes of what a client asks, before anything is begun.
   * @throws SluiceError as `permitted`
   */
  permit({ caller }: FastifyRequest, asking: Asking): Permitted {
    return permitted(this.#policy, caller, asking)
  }

  /** @throws SluiceError `preset_not_found` */
  deliveryOf({ caller }: FastifyRequest, preset: string | undefined): Delivery {
    return deliveryFor(this.#policy, caller, preset)
  }

  /**
   * What Claude gets of it: the definitions of the server's tools are in it.
   * @throws SluiceError as `offer`
   */
  offering({ request, tools = this.#tools }: Permitted): MessageRequest {
    return offer({ request, tools }, this.#toolbox).request
  }

  /**
   * @throws SluiceError as `Streams.begin`; `not_permitted` to whoever may only read one stream; and when the caller, or
   * all together, have used what they may
   */
  begin(request: FastifyRequest, reply: FastifyReply, { permitted, ...wanted }: Wanted): Promise<Begun> {
    const { principal, stream } = request.caller
    if (stream !== undefined) throw new SluiceError('not_permitted')
    const { request: message, preset, tools = this.#tools } = permitted
    const asked = { request: message, preset, tools }
    const trace = this.#beginTrace?.(headerOf(request, 'traceparent'))
    const options = { ...wanted, ...asked, principal, key: keyOf(request), requestId: request.id, trace }
    const limiter = this.#limiter
    if (!limiter?.covers(request)) return this.#streams.begin(options)
    return this.#streams.begin(options, {
      take: async (stream, asked) => apply(reply, await limiter.take(stream, request, asked)),
      giveBack: (stream) => limiter.giveBack(stream),
    })
  }

  /**
   * Lets a request through that begins no stream, and still is work for Claude.
   * @throws SluiceError when there are too many
   */
  async count(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    if (this.#limiter?.covers(request)) apply(reply, await this.#limiter.count(request))
  }
}

function apply(reply: FastifyReply, { standings, refusal }: Decision): void {
  reply.headers(rateLimitHeaders(standings))
  if (refusal) throw refusal
}
