import { setImmediate as nextTurn } from 'node:timers/promises'
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
  function bring(text: string): void {
    const delta = { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text } }
    sink?.onBytes(Buffer.from(`event: content_block_delta\ndata: ${JSON.stringify(delta)}\n\n`))
  }
  /** A read of its own: it is decoded with all that came in the same turn of the event loop. */
  async function push(text: string): Promise<void> {
    bring(text)
    await nextTurn()
  }
  const end = () => sink?.onEnd()
  return { calls, control, stream, bring, push, end }
}

/** Takes what is delivered, a batch each, and the end. */
function receiver() {
  const batches: string[][] = []
  const ends: unknown[] = []
  return {
    batches,
    ends,
    onEvents: (events: readonly UpstreamEvent[]) => void batches.push(events.map((event) => (event as Delta).text)),
    onEnd: (failure: unknown) => void ends.push(failure),
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

it('takes in what one turn of the event loop brings as one batch', async () => {
  const { stream, bring } = open()
  const sink = receiver()
  stream.deliver(sink)
  for (const text of numbers(3)) bring(text)
  await Promise.resolve()
  expect(sink.batches).toEqual([])
  await nextTurn()
  expect(sink.batches).toEqual([numbers(3)])
})

it('takes in much at once, without waiting for what others get', async () => {
  const { stream, bring } = open()
  const sink = receiver()
  stream.deliver(sink)
  const large = 'x'.repeat(10_000)
  for (const text of [large, large, 'rest']) bring(text)
  await Promise.resolve()
  expect(sink.batches).toEqual([[large, large, 'rest']])
  bring('next')
  await nextTurn()
  expect(sink.batches.slice(1)).toEqual([['next']])
})

it('takes in what many have got without waiting for more', async () => {
  const streams = Array.from({ length: 64 }, () => {
    const sink = receiver()
    const { stream, bring } = open()
    stream.deliver(sink)
    return { sink, bring }
  })
  for (const { bring } of streams) bring('a')
  await Promise.resolve()
  for (const { sink } of streams) expect(sink.batches).toEqual([['a']])
})

it('gives what waited before what the socket held, though that comes while it is told to go on', async () => {
  const { control, stream, bring, push, end } = open()
  const sink = receiver()
  control.resume = () => {
    bring('16')
    bring('17')
    end()
    return 0
  }
  stream.deliver(sink)
  stream.pause()
  for (const text of numbers(16)) await push(text)
  stream.resume()
  await nextTurn()
  expect(sink.batches.flat()).toEqual(numbers(18))
  expect(sink.ends).toEqual([undefined])
})

it('holds the end of the response back, too, while the log takes what waited', async () => {
  const { control, stream, bring, push, end } = open()
  const taken = receiver()
  const sink = {
    ...taken,
    onEvents: (events: readonly UpstreamEvent[]) => {
      taken.onEvents(events)
      stream.pause()
    },
  }
  control.resume = () => {
    bring('16')
    end()
    return 0
  }
  stream.deliver(sink)
  stream.pause()
  for (const text of numbers(16)) await push(text)
  stream.resume()
  await nextTurn()
  expect([taken.batches, taken.ends]).toEqual([[numbers(16)], []])
  stream.resume()
  expect([taken.batches, taken.ends]).toEqual([[numbers(16), ['16']], []])
  stream.resume()
  expect(taken.ends).toEqual([undefined])
})

it('does not tell a socket to go on that has been given up', async () => {
  const { calls, stream, push } = open()
  stream.deliver(receiver())
  stream.pause()
  for (const text of numbers(16)) await push(text)
  stream.abandon()
  stream.resume()
  expect(calls).toEqual(['pause', 'abort'])
})
