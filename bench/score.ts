/** What the metronome plays: bytes, each event an HTTP chunk of its own, as Anthropic sends them. */
export interface Score {
  readonly deltas: number
  readonly delayMs: number
  /** What comes before the first delta. */
  readonly start: string
  /** The next delta. */
  delta(): string
  /** What comes after the last delta, but for the end of the body. */
  readonly end: string
}

const filler = 'abcdefghijklmnopqrstuvwxyz '
/** Claude puts blanks before the last brace. */
const padding = ' '.repeat(6)

const scores = new Map<string, Score>()

/** @param model as the simulated Claude takes it: `claude-sim?text=<deltas>&bytes=<each>&delay_ms=<between>&stamp=1` */
export function scoreFor(model: string): Score {
  const known = scores.get(model)
  if (known) return known
  const fields = new URLSearchParams(model.slice(model.indexOf('?') + 1))
  const number = (name: string) => Number(fields.get(name) ?? 0)
  const text = filler.repeat(number('bytes') / filler.length + 1).slice(0, number('bytes'))
  const deltas = number('text')
  const unstamped = deltaWith(text)
  const score = {
    deltas,
    delayMs: number('delay_ms'),
    start: opening(model),
    delta: fields.get('stamp') === '1' ? () => deltaWith(`@${process.hrtime.bigint()};${text}`) : () => unstamped,
    end: closing(deltas),
  }
  scores.set(model, score)
  return score
}

function deltaWith(text: string): string {
  const delta = `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"${text}"}${padding}}`
  return chunk(`event: content_block_delta\ndata: ${delta}\n\n`)
}

function opening(model: string): string {
  const usage = { input_tokens: 10, cache_creation_input_tokens: 0, cache_read_input_tokens: 0, output_tokens: 1 }
  const end = { stop_reason: null, stop_sequence: null, usage }
  const message = { id: 'msg_metronome', type: 'message', role: 'assistant', model, content: [], ...end }
  return [
    event({ type: 'message_start', message }),
    event({ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } }),
  ].join('')
}

function closing(output_tokens: number): string {
  const delta = { stop_reason: 'end_turn', stop_sequence: null }
  return [
    event({ type: 'content_block_stop', index: 0 }),
    event({ type: 'message_delta', delta, usage: { output_tokens } }),
    event({ type: 'message_stop' }),
  ].join('')
}

function event(value: { readonly type: string; readonly [field: string]: unknown }): string {
  return chunk(`event: ${value.type}\ndata: ${JSON.stringify(value)}\n\n`)
}

/** Of ASCII. */
function chunk(text: string): string {
  return `${text.length.toString(16)}\r\n${text}\r\n`
}
