import { networkOf } from '../core/address.ts'
import type { Caller, Limits } from '../core/caller.ts'
import type { SluiceError } from '../core/errors.ts'
import {
  type Accounts,
  type Amount,
  type CallLimits,
  type NextCall,
  nothing,
  type Party,
  type Refusal,
  type Verdict,
} from '../core/limits.ts'
import type { RunReport } from '../core/report.ts'
import type { MessageRequest } from '../core/request.ts'
import { costOf, type Price, type Usage } from '../core/usage.ts'
import { isCounted } from './account.ts'
import { amountOf, estimateInput } from './estimate.ts'
import { dearestFor } from './prices.ts'
import { refusalOf } from './refusals.ts'
import { type Standing, standingsOf } from './standings.ts'

export interface LimiterOptions {
  readonly accounts: Accounts
  /** Of each principal; where nobody is told from anybody, of each address. */
  readonly each: Limits
  /** Of all together. */
  readonly total: Limits
  readonly prices: ReadonlyMap<string, Price>
}

/** Who asks. */
export interface Asking {
  readonly caller: Caller
  /** Where the request came from. */
  readonly ip: string
}

export interface Decision {
  /** Why not, if not. */
  readonly refusal: SluiceError | undefined
  /** How the limits of whoever asked stand now; those of all together are nobody's business. */
  readonly standings: readonly Standing[]
}

/** A stream that is running. */
interface Running {
  readonly parties: readonly Party[]
  /** What its latest call's input is likely to cost: Claude has it before it has said anything. */
  input: Amount
  /** Tokens of the calls before that one. */
  before: number
  /** Where dollars are limited and it names several models, what it can be billed at. */
  readonly dearest: Price | undefined
}

/** Says how much may be used, and by whom. */
export class Limiter implements CallLimits {
  readonly #options: LimiterOptions
  readonly #running = new Map<string, Running>()

  constructor(options: LimiterOptions) {
    this.#options = options
  }

  /** There is anything that whoever asks could have too much of. */
  covers({ caller }: Asking): boolean {
    const { each, total } = this.#options
    return isLimited(total) || isLimited(each) || (caller.limits !== undefined && isLimited(caller.limits))
  }

  /**
   * Reserves what a stream may use. It has to be told of its end, or that it never began.
   * @throws SluiceError `model_without_price`
   */
  async take(stream: string, asking: Asking, request: MessageRequest): Promise<Decision> {
    const parties = this.#partiesOf(asking)
    const { prices } = this.#options
    const isPriced = parties.some(({ limits }) => limits.usd_per_day !== undefined)
    const dearest = isPriced ? dearestFor(request, prices) : undefined
    const price = dearest ?? prices.get(request.model)
    // It looks at the whole request, and nobody asks for it where only requests and streams are counted.
    const input = parties.some(isCountedOf) ? estimateInput(request) : 0
    const amount = amountOf(input, request.max_tokens, price)
    const verdict = await this.#options.accounts.take({ stream, parties, amount })
    if (!verdict.refusal) {
      const isSure = dearest === prices.get(request.model)
      const latest = { input: amountOf(input, 0, price), before: 0 }
      this.#running.set(stream, { parties, dearest: isSure ? undefined : dearest, ...latest })
    }
    return decisionOf(parties, verdict)
  }

  /** @throws SluiceError as it refuses a stream */
  async takeMore({ stream, adopted, request, usage, costUsd }: NextCall): Promise<void> {
    const running = this.#running.get(stream)
    if (running ? !running.parties.some(isCountedOf) : !adopted) return
    const { accounts, prices } = this.#options
    const price = running?.dearest ?? prices.get(request.model)
    const input = estimateInput(request)
    const used = usedOf(usage, costUsd, running?.dearest)
    const amount = amountOf(input, request.max_tokens, price)
    const refusal = await accounts.takeMore({ stream, used, amount })
    if (refusal) throw refusedBy(running?.parties ?? [], refusal)
    if (running) Object.assign(running, { input: amountOf(input, 0, price), before: used.tokens })
  }

  /** Counts a request that begins no stream. */
  async count(asking: Asking): Promise<Decision> {
    const parties = this.#partiesOf(asking)
    return decisionOf(parties, await this.#options.accounts.take({ stream: undefined, parties, amount: nothing }))
  }

  /** How the limits of whoever asks stand. */
  async look(asking: Asking): Promise<readonly Standing[]> {
    const parties = this.#partiesOf(asking)
    return decisionOf(parties, await this.#options.accounts.look(parties)).standings
  }

  /** The stream never began. */
  giveBack(stream: string): void {
    this.#running.delete(stream)
    this.#options.accounts.giveBack(stream)
  }

  /** Whatever its end was, a stream is charged what was seen of it. */
  settle(report: RunReport): void {
    const { stream, adopted, terminal, costUsd, failure } = report
    const running = this.#running.get(stream)
    // Nobody has limited it.
    if (!running && !adopted) return
    this.#running.delete(stream)
    // It has another owner, who knows more of it.
    if (failure?.reason === 'fenced') return void this.#options.accounts.leave(stream)
    const { tokens, microdollars } = usedOf(terminal.usage, costUsd, running?.dearest)
    // Whoever hangs up before Claude has said a word has had it read all the same.
    const isUnseen = terminal.type === 'cancelled' && tokens === running?.before
    const unseen = running && isUnseen ? running.input : nothing
    this.#options.accounts.settle(stream, {
      tokens: tokens + unseen.tokens,
      ...(microdollars !== undefined && { microdollars: microdollars + unseen.microdollars }),
    })
  }

  /** A defect took it away, and nobody knows what it has used: what it reserved is spent. */
  settleUnknown(stream: string): void {
    if (this.#running.delete(stream)) this.#options.accounts.settle(stream, {})
  }

  close(): Promise<void> {
    return this.#options.accounts.close()
  }

  #limitsOf({ caller }: Asking): Limits {
    const { each } = this.#options
    const own = caller.limits
    if (!own) return each
    return {
      requests_per_minute: own.requests_per_minute ?? each.requests_per_minute,
      concurrent_streams: own.concurrent_streams ?? each.concurrent_streams,
      tokens_per_day: own.tokens_per_day ?? each.tokens_per_day,
      usd_per_day: own.usd_per_day ?? each.usd_per_day,
    }
  }

  #partiesOf(asking: Asking): Party[] {
    const { principal } = asking.caller
    const limits = this.#limitsOf(asking)
    const account = principal === '' ? `address ${networkOf(asking.ip)}` : `principal ${principal}`
    const { total } = this.#options
    return [
      ...(isLimited(limits) ? [{ account, limits }] : []),
      ...(isLimited(total) ? [{ account: totalAccount, limits: total }] : []),
    ]
  }
}

/** Of all together. */
const totalAccount = 'total'

function decisionOf(parties: readonly Party[], { refusal, used }: Verdict): Decision {
  const [party] = parties
  const [first] = used
  const isOwn = party !== undefined && party.account !== totalAccount
  const standings = isOwn && first ? standingsOf(party.limits, first, Date.now()) : []
  return { refusal: refusal && refusedBy(parties, refusal), standings }
}

function refusedBy(parties: readonly Party[], refusal: Refusal): SluiceError {
  return refusalOf(refusal, parties[refusal.party]?.account === totalAccount)
}

/** @param dearest of several models: which of them has answered, and what others did for it, the count does not tell */
function usedOf(usage: Usage, costUsd: number | null, dearest: Price | undefined) {
  const { input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens } = usage
  const tokens = input_tokens + output_tokens + (cache_creation_input_tokens ?? 0) + (cache_read_input_tokens ?? 0)
  // As much as is reserved.
  if (costUsd === null) return { tokens }
  const most = dearest ? costOf(usage, dearest) : null
  return { tokens, microdollars: Math.ceil(Math.max(costUsd, most ?? 0) * 1e6) }
}

function isCountedOf({ limits }: Party): boolean {
  return isCounted(limits)
}

export function isLimited(limits: Limits): boolean {
  return Object.values(limits).some((limit) => limit !== undefined)
}
