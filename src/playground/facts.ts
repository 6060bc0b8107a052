import type { TerminalFrame } from '../client/terminal.ts'
import { duration } from './chart.ts'

/** What an answer took, in words. */
export function factsOf(frame: TerminalFrame): string[] {
  const { input_tokens, output_tokens, measured } = frame.usage as {
    input_tokens: number
    output_tokens: number
    measured?: false
  }
  const timing = 'timing' in frame ? frame.timing : undefined
  const facts = [
    frame.type === 'cancelled' && `stopped (${frame.by})`,
    frame.type === 'done' && frame.stop_reason !== 'end_turn' && `ended by ${frame.stop_reason}`,
    `${input_tokens.toLocaleString('en')} in, ${measured === false ? '≈ ' : ''}${output_tokens.toLocaleString('en')} out`,
    frame.type === 'done' && frame.cost_usd !== null && dollars(frame.cost_usd),
    timing && timing.ttft_ms !== null && `first token ${duration(timing.ttft_ms)} at the server`,
    timing && duration(timing.duration_ms),
    timing && timing.tokens_per_second !== null && `${Math.round(timing.tokens_per_second)} tokens/s`,
    frame.type === 'done' && frame.recovered > 0 && `recovered ${frame.recovered}×`,
  ]
  return facts.filter((fact): fact is string => typeof fact === 'string')
}

export function dollars(usd: number): string {
  return `$${usd < 0.01 ? usd.toPrecision(2) : usd.toFixed(usd < 1 ? 3 : 2)}`
}
