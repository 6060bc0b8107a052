import type { FetchLike } from '@modelcontextprotocol/client'
import { type Dispatcher, type RequestInit as UndiciInit, fetch as undiciFetch } from 'undici'
import { ToolFailure } from './failures.ts'

/**
 * A `fetch` for the SDK that reads no further than `maxBytes`: in a stream of events for each event, otherwise in all.
 * It follows no redirects and takes nothing compressed, as a little of that can be very much.
 * @param onFlood is told when more came: the SDK would go on to wait for an answer
 */
export function cappedFetch(
  dispatcher: Dispatcher,
  maxBytes: number,
  onFlood: (fault: ToolFailure) => void,
): FetchLike {
  return async (url, init = {}) => {
    const headers = new Headers(init.headers)
    headers.set('accept-encoding', 'identity')
    const options = { ...init, headers: [...headers], redirect: 'manual', dispatcher }
    const response = await undiciFetch(url, options as unknown as UndiciInit)
    const fault = faultOf(response.status, response.headers.get('content-encoding'))
    if (fault) {
      await response.body?.cancel()
      throw fault
    }
    if (response.body === null) return response as unknown as Response
    const isEvents = /^text\/event-stream\b/i.test(response.headers.get('content-type') ?? '')
    const body = response.body as unknown as ReadableStream<Uint8Array>
    return new Response(body.pipeThrough(byteCap(maxBytes, isEvents, onFlood)), {
      status: response.status,
      headers: [...response.headers],
    })
  }
}

function faultOf(status: number, encoding: string | null): ToolFailure | undefined {
  if (status >= 300 && status < 400) return new ToolFailure('redirect', String(status))
  return encoding === null || encoding === 'identity' ? undefined : new ToolFailure('encoding')
}

/** Fails once more than `maxBytes` have come, with `byEvent` since the last blank line. */
function byteCap(
  maxBytes: number,
  byEvent: boolean,
  onFlood: (fault: ToolFailure) => void,
): TransformStream<Uint8Array, Uint8Array> {
  let size = 0
  let end = ''
  return new TransformStream({
    transform(chunk, controller) {
      const text = byEvent ? end + Buffer.from(chunk).toString('latin1') : ''
      const blank = Math.max(text.lastIndexOf('\n\n'), text.lastIndexOf('\r\r'), text.lastIndexOf('\n\r\n'))
      size = blank < 0 ? size + chunk.length : text.length - blank
      end = text.slice(-2)
      if (size <= maxBytes) return controller.enqueue(chunk)
      const fault = new ToolFailure('too_large')
      controller.error(fault)
      onFlood(fault)
    },
  })
}
