/** Where something is that a plot shows beside its line. */
export interface Mark {
  readonly at: number
  readonly kind: 'first' | 'cut' | 'back' | 'recovery' | 'end'
  readonly label: string
}

interface Gap {
  readonly from: number
  readonly to: number
}

/** Silence that is longer than this shows as a gap, in milliseconds. */
const gapMs = 1_000
/** Anthropic's own rule of thumb for English. */
const charactersPerToken = 4

/** What an answer looked like over time: estimated tokens, from the lengths of its pieces. */
export class Series {
  /** In milliseconds since the question was sent. */
  readonly times: number[] = []
  readonly totals: number[] = []
  readonly marks: Mark[] = []
  readonly gaps: Gap[] = []
  #characters = 0

  get tokens(): number {
    return this.totals.at(-1) ?? 0
  }

  /** Between the first and the last piece; undefined while there is too little to say. */
  get tokensPerSecond(): number | undefined {
    const [first = 0] = this.times
    const span = (this.times.at(-1) ?? 0) - first
    return span > 200 ? (this.tokens / span) * 1_000 : undefined
  }

  get firstMs(): number | undefined {
    return this.times[0]
  }

  add(at: number, text: string): void {
    const last = this.times.at(-1)
    if (last === undefined) this.mark({ at, kind: 'first', label: `First token after ${duration(at)}` })
    else if (at - last > gapMs) {
      this.gaps.push({ from: last, to: at })
      this.times.push(at)
      this.totals.push(this.tokens)
    }
    this.#characters += text.length
    this.times.push(at)
    this.totals.push(this.#characters / charactersPerToken)
  }

  mark(mark: Mark): void {
    this.marks.push(mark)
  }

  /** As many points as a screen has room for, the last among them. */
  points(most: number): [at: number, total: number][] {
    const step = Math.max(1, Math.ceil(this.times.length / most))
    const points: [number, number][] = []
    for (let index = 0; index < this.times.length; index += step) {
      points.push([this.times[index] as number, this.totals[index] as number])
    }
    const last = this.times.length - 1
    if (last >= 0 && last % step !== 0) points.push([this.times[last] as number, this.totals[last] as number])
    return points
  }
}

/** Round numbers from 0 up to what holds `most`, in at most `count` steps. */
export function ticks(most: number, count: number): number[] {
  const rough = Math.max(most, 1e-9) / count
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = ([1, 2, 5, 10].find((each) => each * power >= rough) ?? 10) * power
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, n) => Number((n * step).toPrecision(12)))
}

export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`
  if (ms < 60_000) return `${(ms / 1_000).toFixed(ms < 9_950 ? 1 : 0)} s`
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1_000)} s`
}
