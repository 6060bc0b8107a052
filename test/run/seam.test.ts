import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Block } from '../../src/core/blocks.ts'
import { Delta, escapeJson } from '../../src/core/delta.ts'
import type { LogEvent } from '../../src/core/events.ts'
import { snapshot } from '../../src/core/message.ts'
import { type Partial, partialOf, requestForRest } from '../../src/run/partial.ts'
import { Seam } from '../../src/run/seam.ts'

const request = { model: 'm', max_tokens: 10, messages: [{ role: 'user', content: 'Hi' }] }
const usage = { input_tokens: 11, output_tokens: 22, measured: false } as const

function messageOf(blocks: readonly Block[], cut: (text: string) => string[]): LogEvent[] {
  const message = {
    id: 'msg_1',
    type: 'message',
    role: 'assistant',
    model: 'm',
    content: [],
    usage: { input_tokens: 1 },
  }
  const events: unknown[] = [{ type: 'message_start', message }]
  for (const [index, block] of blocks.entries()) {
    const { text, thinking, ...rest } = block
    const said = String(text ?? thinking ?? '')
    const kind = block.type === 'thinking' ? 'thinking' : 'text'
    const empty = block.type === 'text' ? { text: '' } : block.type === 'thinking' ? { thinking: '' } : {}
    events.push({ type: 'content_block_start', index, content_block: { ...rest, ...empty } })
    for (const piece of cut(said)) events.push(new Delta(kind, index, escapeJson(piece)))
    events.push({ type: 'content_block_stop', index })
  }
  events.push({
    type: 'message_delta',
    delta: { stop_reason: 'end_turn', stop_sequence: null },
    usage: { output_tokens: 5 },
  })
  events.push({ type: 'message_stop' })
  return events as LogEvent[]
}

const byWords = (text: string) => text.match(/\s*\S+|\s+$/g) ?? []
const byCharacters = (text: string) => [...text]

const texts = fc.constantFrom(
  'One two three, four five. Six seven eight!',
  'A list:\n\n- first\n- second, with “quotes” and 水門\n\nand an end.',
  'x',
  Array.from({ length: 90 }, (_, n) => `word${n}`).join(' '),
)
const textBlock = texts.map((text): Block => ({ type: 'text', text }))
const searchBlock: Block = { type: 'web_search_tool_result', tool_use_id: 'srv_1', content: [] }
const thinkingBlock: Block = { type: 'thinking', thinking: 'Let me think.', signature: 'c2ln' }

describe('a seam', () => {
  it('makes one valid message of an answer cut anywhere and its rest', () => {
    const blocks = fc.uniqueArray(
      fc.oneof({ weight: 3, arbitrary: textBlock }, { arbitrary: fc.constant(searchBlock), weight: 1 }),
      {
        minLength: 1,
        maxLength: 4,
        selector: ({ type, text }) => text ?? type,
      },
    )
    fc.assert(
      fc.property(blocks, fc.nat(), fc.boolean(), fc.boolean(), (blocks, at, thinksAnew, inOnePiece) => {
        const all = messageOf(blocks, byWords)
        // Behind some content, and before the end is known.
        const lost = all.slice(0, 2 + (at % (all.length - 3)))
        const partial = partialOf(lost, request)
        if (!partial) return
        const told = snapshot(lost).message?.content ?? []
        const missing = blocks.slice(told.length)
        const last = blocks[told.length - 1] as Block
        const open = partial.openText !== undefined
        const rest = String(last['text'] ?? '').slice(String(told.at(-1)?.['text'] ?? '').length)
        const continued = [
          ...(thinksAnew ? [thinkingBlock] : []),
          ...(open ? [{ type: 'text', text: rest }] : []),
          ...missing,
        ]
        const seam = new Seam(partial, 'quote', () => usage)
        const events = messageOf(continued, byCharacters)
        const after = inOnePiece ? seam.take(events) : events.flatMap((event) => seam.take([event]))
        const log = [...lost, ...after]
        const { message } = snapshot(log)
        const visible = (message?.content ?? []).filter(({ type }) => type !== 'thinking')
        expect(visible.map(({ type, text }) => [type, text])).toEqual(blocks.map(({ type, text }) => [type, text]))
        expect(message?.usage).toMatchObject({ input_tokens: 11, output_tokens: 22 })
        expect(message?.stop_reason).toBe('end_turn')
        expectValid(log)
      }),
      { numRuns: 300 },
    )
  })

  it('joins the text behind thoughts, behind an empty block, and in a block that nobody ends', () => {
    const text = 'The quick brown fox jumps over the lazy dog'
    const lost = messageOf([{ type: 'text', text: 'The quick brown fox' }, searchBlock], byWords).slice(0, -2)
    const answers: Block[][] = [
      [thinkingBlock, { type: 'text', text: 'Continuing:\n\nquick brown fox jumps over the lazy dog' }],
      [
        { type: 'text', text: '' },
        { type: 'text', text: 'quick brown fox jumps over the lazy dog' },
      ],
    ]
    for (const blocks of answers) {
      const seam = new Seam(partialOf(lost, request) as Partial, 'quote', () => usage)
      const log = [...lost, ...seam.take(messageOf(blocks, byWords))]
      const said = snapshot(log).message?.content.map((block) => block['text'] ?? '')
      expect(said?.join('')).toBe(text)
      expectValid(log)
    }
    const open = messageOf([{ type: 'text', text: 'The quick' }], byWords).slice(0, 4)
    const seam = new Seam(partialOf(open, request) as Partial, 'quote', () => usage)
    const sloppy = messageOf([{ type: 'text', text: ' brown fox' }], byWords).filter(
      ({ type }) => type !== 'content_block_stop',
    )
    const log = [...open, ...seam.take(sloppy)]
    expect(snapshot(log).message?.content).toEqual([{ type: 'text', text: 'The quick brown fox' }])
    expectValid(log)
  })

  it('leaves out an answer that is told anew as far as it was there', () => {
    const text = Array.from({ length: 200 }, (_, n) => `word${n}`).join(' ')
    const whole = messageOf([{ type: 'text', text }], byWords)
    const lost = whole.slice(0, 150)
    const seam = new Seam(partialOf(lost, request) as Partial, 'quote', () => usage)
    const log = [...lost, ...whole.flatMap((event) => seam.take([event]))]
    expect(snapshot(log).message?.content).toEqual([{ type: 'text', text }])
  })

  it('ends the open text when a call follows instead', () => {
    const partial = partialOf(messageOf([{ type: 'text', text: 'One two' }], byWords).slice(0, 3), request) as Partial
    const call = { type: 'tool_use', id: 't', name: 'x', input: {} }
    const events = new Seam(partial, 'quote', () => usage).take(messageOf([call], byWords))
    expect(events.slice(0, 3)).toMatchObject([
      { type: 'content_block_stop', index: 0 },
      { type: 'content_block_start', index: 1, content_block: call },
      { type: 'content_block_stop', index: 1 },
    ])
  })
})

describe('what is left of an answer', () => {
  const call: Block = { type: 'tool_use', id: 't', name: 'x', input: {} }
  it.each([
    ['a call under way', [{ type: 'text', text: 'a' }, call], 5],
    ['a call that waits for its result', [{ type: 'text', text: 'a' }, call], 6],
    ['thinking under way', [thinkingBlock], 3],
    ['a tool of the server at work', [{ type: 'server_tool_use', id: 's', name: 'web_search', input: {} }], 3],
    ['a tool of the server under way', [{ type: 'server_tool_use', id: 's', name: 'web_search', input: {} }], 2],
  ])('cannot be gone on with: %s', (_, blocks, events) => {
    expect(partialOf(messageOf(blocks as Block[], byWords).slice(0, events), request)).toBeUndefined()
  })

  it('cannot be gone on with where each answer begins its JSON anew', () => {
    const lost = messageOf([{ type: 'text', text: '{"a": 1}' }], byWords).slice(0, 3)
    for (const more of [
      { output_config: { format: { type: 'json_schema' } } },
      { output_format: { type: 'json_schema' } },
    ]) {
      expect(partialOf(lost, { ...request, ...more })).toBeUndefined()
    }
  })

  it('needs only its end mark when Claude has said why it stopped', () => {
    const events = messageOf([{ type: 'text', text: 'a' }, call], byWords).slice(0, -1)
    expect(partialOf(events, request)?.stopped).toBe(true)
  })
})

describe('the request for the rest', () => {
  const partial = (blocks: Block[]): Partial => ({
    blocks,
    openText: blocks.length - 1,
    nextIndex: blocks.length,
    stopped: false,
  })

  it('quotes the end in a user turn', () => {
    const { messages } = requestForRest(request, partial([thinkingBlock, { type: 'text', text: 'One two ' }]), 'quote')
    expect(messages.slice(0, 2)).toEqual([
      ...request.messages,
      { role: 'assistant', content: [{ type: 'text', text: 'One two ' }] },
    ])
    expect(messages.at(-1)).toMatchObject({
      role: 'user',
      content: expect.stringContaining('>One two </end_of_response>'),
    })
  })

  it('ends with an assistant turn without a trailing blank for models that accept it', () => {
    const { messages } = requestForRest(request, partial([{ type: 'text', text: 'One two \n' }]), 'prefill')
    expect(messages).toEqual([...request.messages, { role: 'assistant', content: [{ type: 'text', text: 'One two' }] }])
  })

  it('is the question again when there is nothing to quote', () => {
    expect(requestForRest(request, partial([thinkingBlock]), 'quote')).toBe(request)
  })
})

/** Blocks in a row, each begun and ended once. */
function expectValid(log: readonly LogEvent[]): void {
  let open: number | undefined
  let next = 0
  for (const event of log) {
    if (event.type === 'content_block_start') {
      expect([open, event.index]).toEqual([undefined, next++])
      open = event.index
    } else if (event.type === 'content_block_stop') {
      expect(event.index).toBe(open)
      open = undefined
    } else if (event.type === 'delta') expect(event.index).toBe(open)
  }
  expect(open).toBeUndefined()
  expect(log.filter(({ type }) => type === 'message_start')).toHaveLength(1)
  expect(log.at(-1)?.type).toBe('message_stop')
}
