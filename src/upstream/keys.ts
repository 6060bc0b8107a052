import { type ErrorCode, SluiceError } from '../core/errors.ts'

/** After a 429 that does not say how long. */
const standardMs = 1_000
/** After a 401 or 403, when there are other keys. */
const refusedMs = 60_000
/** A longer `retry-after` is not taken at its word: limits are raised, and gateways err, before a day has passed. */
const maxMs = 300_000
/**
 * Who waits for the end of a cooldown may be back before it: Node's timers count from the beginning of the turn of the
 * event loop that set them, and in whole milliseconds.
 */
const earlyMs = 25
/** For each key. Clients choose the names of models, but Claude answers 429 for those that exist. */
const maxCooldowns = 1_000
/** In the place of a model's name. */
const everyModel = ''

/** For how long a key is not used for a model, and why. */
interface Cooldown {
  /** In milliseconds of the monotonic clock. */
  readonly until: number
  readonly code: ErrorCode
}

export interface KeyRingOptions {
  /** How many keys there are. */
  readonly keys: number
  /** Claude refused a key while there are others; told once for each key and reason. */
  onRefused(key: number, reason: string | undefined): void
}

/**
 * Which key is used next: each in its turn, but none for a model that it was just told to wait for. So what a thousand
 * clients ask of a limited key costs no calls, which would keep the limit from ever being lifted. Keys are numbers from 0.
 */
export class KeyRing {
  readonly #cooldowns: readonly Cooldowns[]
  readonly #onRefused: KeyRingOptions['onRefused']
  readonly #told = new Set<string>()
  #next = 0

  constructor({ keys, onRefused }: KeyRingOptions) {
    this.#cooldowns = Array.from({ length: keys }, () => new Cooldowns())
    this.#onRefused = onRefused
  }

  /**
   * @param model or whatever else has a limit of its own
   * @throws SluiceError with the reason `cooldown` when no key may be used: what the last call was told, and how long to wait
   */
  take(model: string, now: number): number {
    for (let tries = this.#cooldowns.length; tries > 0; tries--) {
      const key = this.#next
      this.#next = (key + 1) % this.#cooldowns.length
      if (!this.#cooldowns[key]?.of(model, now)) return key
    }
    const { code, until } = this.#soonest(model, now)
    throw new SluiceError(code, { retryAfterMs: Math.ceil(until - now), reason: 'cooldown' })
  }

  /**
   * Takes in why a call with `key` was refused.
   * @returns what is to be thrown: it says when there is a key again, which may be at once
   */
  failed(key: number, model: string, failure: SluiceError, now: number): SluiceError {
    const { code, reason } = failure
    const forMs = cooldownMs(failure)
    const refused = code === 'upstream_auth'
    if (forMs === undefined || (refused && !this.#hasOther(key, model, now))) return failure
    if (refused) this.#tell(key, reason)
    // A 403 may be about the model alone, which is the client's choice: it must not cost the others their keys.
    const subject = reason === '401' ? everyModel : model
    this.#cooldowns[key]?.add(subject, { until: now + Math.min(forMs, maxMs), code }, now)
    const free = this.#cooldowns.some((each) => !each.of(model, now))
    return new SluiceError(code, {
      ...failure,
      message: failure.message,
      retryAfterMs: free ? undefined : Math.round(this.#soonest(model, now).until - now),
      shouldRetry: refused || failure.shouldRetry,
    })
  }

  /** How many keys are left alone now, for a model at least, by the reason. */
  resting(now: number): Partial<Record<ErrorCode, number>> {
    const resting: Partial<Record<ErrorCode, number>> = {}
    for (const each of this.#cooldowns) {
      for (const code of each.codes(now)) resting[code] = (resting[code] ?? 0) + 1
    }
    return resting
  }

  /** The cooldown to wait for, when there is nothing else to do. A key that was refused will hardly be taken later. */
  #soonest(model: string, now: number): Cooldown {
    const all = this.#cooldowns.map((each) => each.of(model, now)).filter((each) => each !== undefined)
    const hopeful = all.filter(({ code }) => code !== 'upstream_auth')
    return (hopeful.length > 0 ? hopeful : all).reduce((one, other) => (other.until < one.until ? other : one))
  }

  #hasOther(key: number, model: string, now: number): boolean {
    return this.#cooldowns.some((other, n) => n !== key && other.of(model, now)?.code !== 'upstream_auth')
  }

  #tell(key: number, reason: string | undefined): void {
    const refusal = `${key} ${reason}`
    if (!this.#told.has(refusal)) this.#onRefused(key, reason)
    this.#told.add(refusal)
  }
}

/** Of one key. */
class Cooldowns {
  readonly #known = new Map<string, Cooldown>()

  of(model: string, now: number): Cooldown | undefined {
    if (this.#known.size === 0) return undefined
    return later(this.#get(model, now), this.#get(everyModel, now))
  }

  codes(now: number): Set<ErrorCode> {
    const running = Array.from(this.#known.keys(), (model) => this.#get(model, now))
    return new Set(running.flatMap((cooldown) => (cooldown ? [cooldown.code] : [])))
  }

  add(model: string, cooldown: Cooldown, now: number): void {
    // Calls that were under way together may be told different things.
    const kept = later(this.#get(model, now), cooldown)
    if (this.#known.size >= maxCooldowns && !this.#known.has(model)) this.#makeRoom(now)
    if (kept) this.#known.set(model, kept)
  }

  #get(model: string, now: number): Cooldown | undefined {
    const cooldown = this.#known.get(model)
    if (!cooldown || now < cooldown.until - earlyMs) return cooldown
    this.#known.delete(model)
    return undefined
  }

  #makeRoom(now: number): void {
    for (const model of this.#known.keys()) this.#get(model, now)
    const [oldest] = this.#known.keys()
    if (this.#known.size >= maxCooldowns && oldest !== undefined) this.#known.delete(oldest)
  }
}

function later(one: Cooldown | undefined, other: Cooldown | undefined): Cooldown | undefined {
  return one && other ? (other.until > one.until ? other : one) : (one ?? other)
}

/** For how long a key that failed so is better left alone. */
function cooldownMs({ code, retryAfterMs }: SluiceError): number | undefined {
  switch (code) {
    case 'upstream_rate_limited':
      return retryAfterMs ?? standardMs
    case 'upstream_overloaded':
      return retryAfterMs
    case 'upstream_auth':
      return refusedMs
    default:
      return undefined
  }
}
