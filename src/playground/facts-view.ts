import type { TerminalFrame } from '../client/terminal.ts'
import { duration, type Series } from './chart.ts'
import { byId } from './dom.ts'
import { dollars } from './facts.ts'

const names = ['first', 'tokens', 'rate', 'cost'] as const

function set(name: (typeof names)[number], text: string): void {
  byId(`fact-${name}`).textContent = text
}

/** Whether the end has told what it took: nothing is estimated any more. */
let isTold = false

export function clearFacts(): void {
  isTold = false
  for (const name of names) set(name, '–')
}

/** What can be seen from here, before the end tells it exactly. */
export function drawFacts(series: Series): void {
  if (series.firstMs !== undefined) set('first', duration(series.firstMs))
  if (isTold) return
  if (series.tokensPerSecond !== undefined) set('rate', `≈ ${Math.round(series.tokensPerSecond)}`)
  set('tokens', `≈ ${Math.round(series.tokens)}`)
}

/** What the end of a stream tells. @returns the same in a sentence */
export function endFacts(frame: TerminalFrame): string {
  isTold = true
  set('tokens', frame.usage.output_tokens.toLocaleString('en'))
  const rate = 'timing' in frame ? frame.timing.tokens_per_second : null
  set('rate', rate === null ? '–' : String(Math.round(rate)))
  if (frame.type === 'cancelled') return 'The answer was stopped.'
  if (frame.type === 'error') return `The answer failed: ${frame.error.code}.`
  set('cost', frame.cost_usd === null ? '–' : dollars(frame.cost_usd))
  return `Done: ${frame.usage.output_tokens} tokens in ${duration(frame.timing.duration_ms)}.`
}
