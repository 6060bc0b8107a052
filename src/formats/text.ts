import { isTerminal, type LogEvent } from '../core/events.ts'
import type { Encoder, Format } from '../core/format.ts'
import { comment, type Frames } from '../core/sse.ts'

/** What a text frame must not be, as clients take it for the end of the stream. */
const endMark = '[DONE]'

/** Claude's text and nothing else: for `curl`, and for pages that append `event.data` to an element. */
export const text: Format = {
  name: 'text',
  headers: {},
  heartbeat: comment('heartbeat'),
  smoothable: true,
  reconnects: true,
  encoder,
}

function encoder(): Encoder {
  let afterCr = false
  return (event, out) => {
    const text = textOf(event)
    // CRLF is one line break, even when Claude sends it in two deltas.
    const piece = afterCr && text.startsWith('\n') ? text.slice(1) : text
    if (text !== '') afterCr = text.endsWith('\r')
    encode(event, piece, out)
  }
}

function encode(event: LogEvent, piece: string, out: Frames): void {
  if (piece === endMark) {
    // Claude wrote it, in one delta: told apart from our own by coming in two frames.
    out.text(piece.slice(0, 1))
    out.text(piece.slice(1))
  } else if (piece !== '') {
    out.text(piece)
  }
  // An id from the first byte on, so that a reconnect before the first word does not ask the question again.
  if (event.type === 'start') out.mark()
  if (isTerminal(event)) end(event, out)
}

function textOf(event: LogEvent): string {
  if (event.type === 'delta' && event.kind === 'text') return event.text
  if (event.type === 'content_block_start' && event.content_block.type === 'text') {
    const { text } = event.content_block
    return typeof text === 'string' ? text : ''
  }
  return ''
}

function end(event: LogEvent, out: Frames): void {
  if (event.type === 'done') out.mark()
  else out.event('stream_error', JSON.stringify(event))
  out.end('with [DONE]')
}
