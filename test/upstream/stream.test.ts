import { expect, it } from 'vitest'
import type { Delta } from '../../src/core/delta.ts'
import type { UpstreamEvent } from '../../src/core/events.ts'
import { EventStream } from '../../src/upstream/stream.ts'
import type { BodySink, StreamingResponse } from '../../src/upstream/transport.ts'

/** An answer whose bytes the test pushes, one socket read at a time. */
function open() {
  const calls: string[] = []
  const control = {
    pause: () => calls.push('pause'),
    resume: () => calls.push('resume'),
    abort: () => calls.push('abort'),
  }
  let sink: BodySink | undefined
  const response = {
    headers: new Headers(),
    control,
    attach: (to: BodySink) => {
      sink = to
    },
  } as unknown as StreamingResponse
  const stream = new EventStream(response, 1_000_000, new AbortController().signal)
  async function push(text: string): Promise<void> {
    const delta = { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text } }
    sink?.onBytes(Buffer.from(`event: content_block_delta\ndata: ${JSON.stringify(delta)}\n\n`))
    // A read is decoded behind those that came in the same moment.
    await Promise.resolve()
  }
  return { calls, stream, push }
}

/** Takes what is delivered; a batch each. */
function receiver() {
  const batches: string[][] = []
  return {
    batches,
    onEvents: (events: readonly UpstreamEvent[]) => void batches.push(events.map((event) => (event as Delta).text)),
    onEnd() {},
  }
}

const numbers = (count: number) => Array.from({ length: count }, (_, n) => `${n}`)

it('gives a sink that comes late everything that has come meanwhile, in order, as one batch', async () => {
  const { calls, stream, push } = open()
  const sink = receiver()
  for (const text of numbers(16)) await push(text)
  // So much waits and no more: then it is for the socket to wait.
  expect(calls).toEqual(['pause'])
  stream.deliver(sink)
  expect(sink.batches).toEqual([numbers(16)])
  expect(calls).toEqual(['pause', 'resume'])
  await push('last')
  expect(sink.batches).toEqual([numbers(16), ['last']])
  expect(calls).toEqual(['pause', 'resume'])
})

it('holds events back while it is paused, a little in memory and the rest in the socket', async () => {
  const { calls, stream, push } = open()
  const sink = receiver()
  stream.deliver(sink)
  stream.pause()
  for (const text of numbers(15)) await push(text)
  expect([sink.batches, calls]).toEqual([[], []])
  stream.resume()
  expect([sink.batches, calls]).toEqual([[numbers(15)], []])
  stream.pause()
  for (const text of numbers(20)) await push(text)
  stream.resume()
  expect(sink.batches[1]).toEqual(numbers(20))
  expect(calls).toEqual(['pause', 'resume'])
})
