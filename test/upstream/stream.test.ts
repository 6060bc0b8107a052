import { expect, it } from 'vitest'
import type { Delta } from '../../src/core/delta.ts'
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

it('gives a consumer that was busy everything that has come meanwhile, in order, as one batch', async () => {
  const { calls, stream, push } = open()
  for (let n = 0; n < 16; n++) await push(`${n}`)
  // So much waits and no more: then it is for the socket to wait.
  expect(calls).toEqual(['pause'])
  const { value } = await stream.next()
  expect(value?.map((event) => (event as Delta).text)).toEqual(Array.from({ length: 16 }, (_, n) => `${n}`))
  expect(calls).toEqual(['pause', 'resume'])
  await push('last')
  expect((await stream.next()).value).toHaveLength(1)
  expect(calls).toEqual(['pause', 'resume'])
})
