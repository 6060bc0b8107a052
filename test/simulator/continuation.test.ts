import Anthropic from '@anthropic-ai/sdk'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { answerTo } from '../../src/simulator/answer.ts'
import type { SimulatedRequest } from '../../src/simulator/compose.ts'
import type { Scenario } from '../../src/simulator/scenario.ts'
import { Simulator } from '../../src/simulator/server.ts'
import { fetchAll } from '../support/client.ts'
import { expectedOf, recordings } from '../support/recordings.ts'
import { sim } from '../support/sluice.ts'

// biome-ignore lint/suspicious/noExplicitAny: tests read events as a client without types does
type Json = any

const user = { role: 'user', content: 'hi' }
const assistant = (content: unknown) => ({ role: 'assistant', content })
const quotation = (end: string) =>
  `Your previous response was interrupted and ended with:\n<end_of_response>${end}</end_of_response>\nGo on from there.`
const request = (...messages: { role: string; content: unknown }[]): SimulatedRequest => ({
  model: 'claude-sim',
  max_tokens: 1_000,
  messages,
})

/** The ways to ask for the rest. */
const ways = {
  prefill: (partial: string) => request(user, assistant(partial)),
  'prefill in blocks': (partial: string) =>
    request(
      user,
      assistant([
        { type: 'text', text: partial.slice(0, 3) },
        { type: 'thinking', thinking: 'no text' },
        { type: 'text', text: partial.slice(3) },
      ]),
    ),
  'a quotation': (partial: string, end = partial.slice(-9)) =>
    request(user, assistant(partial), { role: 'user', content: quotation(end) }),
  'a quotation in the question': (partial: string) =>
    request({ role: 'user', content: `${user.content}\n\n${quotation(partial)}` }),
  'a quotation in blocks': (partial: string) =>
    request({
      role: 'user',
      content: [
        { type: 'text', text: 'hi' },
        { type: 'text', text: quotation(partial) },
      ],
    }),
}

interface Heard {
  readonly events: Json[]
  readonly texts: string[]
  readonly text: string
  readonly continues: boolean
}

function hear(asked: SimulatedRequest, scenario: Scenario = {}, recording?: Buffer): Heard {
  const answer = answerTo(asked, scenario, 'msg_sim_1', recording)
  if (!answer) return expect.unreachable('nothing like that was said')
  const events = [...answer.events].map((bytes) => {
    const [, data = ''] = /^data: (.*)$/m.exec(Buffer.from(bytes, 'latin1').toString()) ?? []
    return JSON.parse(data)
  })
  const texts = events.flatMap(({ delta }) => (delta?.type === 'text_delta' ? [delta.text] : []))
  return { events, texts, text: texts.join(''), continues: answer.continues }
}

const startsOf = ({ events }: Heard) =>
  events.flatMap((event) => (event.type === 'content_block_start' ? [[event.index, event.content_block.type]] : []))
/** Every beginning of an answer that its words alone can be told by. */
const beginnings = (text: string) =>
  [...Array(text.length).keys()].map((at) => text.slice(0, at + 1)).filter((partial) => text.lastIndexOf(partial) === 0)

describe.each(Object.entries(ways))('%s', (name, ask) => {
  it('gets the rest, wherever the answer broke off', () => {
    const whole = hear(request(user), { text: 40, thinking: 2 })
    for (const partial of beginnings(whole.text)) {
      const rest = hear(ask(partial), { text: 40, thinking: 2 })
      expect(partial + rest.text).toBe(whole.text)
      expect(rest.continues).toBe(true)
      expect(startsOf(rest)).toEqual([[0, 'text']])
      const others = rest.texts.slice(1)
      expect(others).toEqual(whole.texts.slice(whole.texts.length - others.length))
    }
  })

  it.each([...recordings].filter(([, bytes]) => expectedOf(bytes).text !== ''))('gets the rest of %s', (_, bytes) => {
    const whole = hear(request(user), {}, bytes)
    for (const partial of beginnings(whole.text)) {
      const rest = hear(ask(partial), {}, bytes)
      expect(partial + rest.text).toBe(whole.text)
      const indexes = startsOf(rest).map(([index]) => index)
      expect(indexes).toEqual(indexes.map((_, n) => n))
      expect(startsOf(rest)).toEqual([
        [0, 'text'],
        ...startsOf(whole)
          .slice(startsOf(whole).length - indexes.length + 1)
          .map(([, type], n) => [n + 1, type]),
      ])
      expect(rest.events.at(-1)).toEqual(whole.events.at(-1))
    }
  })

  it('gets an empty block and what follows it when all the text was there', () => {
    const scenario = { text: 5, tool: 'weather' }
    const { text } = hear(request(user), scenario)
    const rest = hear(ask(text), scenario)
    expect(rest.text).toBe('')
    expect(startsOf(rest)).toEqual([
      [0, 'text'],
      [1, 'tool_use'],
    ])
    expect(rest.events.at(-2)).toMatchObject({ delta: { stop_reason: 'tool_use' }, usage: { output_tokens: 12 } })
  })

  it('has thinking and words that were there behind it in what it counts', () => {
    const scenario = { text: 30, thinking: 4 }
    const { texts } = hear(request(user), scenario)
    const { events } = hear(ask(`${texts.slice(0, 10).join('')}${texts[10]?.slice(0, 1)}`), scenario)
    expect(events.at(-2)).toMatchObject({ delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 20 } })
    expect(events[0].message.usage.input_tokens).toBeGreaterThan(15)
  })

  it('ends at its own max_tokens', () => {
    const { texts } = hear(request(user), { text: 30 })
    const asked = { ...ask(texts.slice(0, 10).join('')), max_tokens: 5 }
    const rest = hear(asked, { text: 30, tool: 'weather' })
    expect(rest.texts).toEqual(texts.slice(10, 15))
    expect(rest.events.at(-2)).toMatchObject({ delta: { stop_reason: 'max_tokens' }, usage: { output_tokens: 5 } })
  })

  it.each<[Scenario['continue'], string]>([
    ['exact', ' back what should not. '],
    ['repeat', 'flow and holds back what should not. '],
    ['capital', 'Back what should not. '],
    ['announce', 'Continuing:  back what should not. '],
  ])('with continue=%s begins like that', (how, said) => {
    const scenario = { text: 13, ...(how && { continue: how }) }
    expect(hear(ask('A sluice lets through what should flow and holds'), scenario).text).toBe(said)
  })

  it('that fits no answer is no continuation', () => {
    const asked = ask('Something else')
    if (name.startsWith('prefill'))
      expect(hear(asked, { text: 3 })).toMatchObject({ text: 'A sluice lets ', continues: false })
    else expect(answerTo(asked, {}, 'msg_sim_1', undefined)).toBeUndefined()
  })
})

describe('a quotation', () => {
  const ask = ways['a quotation']

  it('of a few sentences is enough in an answer of any length', () => {
    const { text } = hear(request(user), { text: 800 })
    for (let at = 300; at < text.length; at += 97) {
      expect(hear(ask('not what was said', text.slice(at - 250, at)), { text: 800 }).text).toBe(text.slice(at))
    }
  })

  it('that comes several times is that of the answer so far, if it is right', () => {
    const scenario = { text: 80 }
    const { text } = hear(request(user), scenario)
    const first = text.indexOf('what ') + 'what '.length
    expect(hear(ask(text.slice(0, first), 'what '), scenario).text).toBe(text.slice(first))
    const last = text.lastIndexOf('what ') + 'what '.length
    for (const soFar of ['A what ', text.slice(0, first - 1), text.slice(0, first + 1)]) {
      expect(hear(ask(soFar, 'what '), scenario).text).toBe(text.slice(last))
    }
  })

  it('is verbatim, blanks, marks and all', () => {
    const recording = Buffer.from(
      [
        { type: 'message_start', message: { id: 'm', usage: { input_tokens: 1 } } },
        { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
        { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'a </end_of_response> \n' } },
        { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'b' } },
      ]
        .map((event) => `data: ${JSON.stringify(event)}\n\n`)
        .join(''),
    )
    expect(hear(ask('?', '</end_of_response> \n'), {}, recording).text).toBe('b')
    expect(answerTo(ask('?', '</end_of_response>\n'), {}, 'msg_sim_1', recording)).toBeUndefined()
  })

  it('leaves the question as it was, with what it brings', () => {
    const result = { type: 'tool_result', tool_use_id: 't', content: '9 degrees' }
    const said = hear(request({ role: 'user', content: [result] }), { text: 9 }).text
    const partial = said.slice(0, 20)
    const inQuestion = request({ role: 'user', content: [result, { type: 'text', text: quotation(partial) }] })
    const alone = request({ role: 'user', content: [result] }, assistant(partial), {
      role: 'user',
      content: [{ type: 'text', text: quotation(partial) }],
    })
    for (const asked of [inQuestion, alone]) expect(partial + hear(asked, { text: 9 }).text).toBe(said)
  })
})

describe('over HTTP', () => {
  let simulator: Simulator
  beforeAll(async () => {
    simulator = await Simulator.start()
  })
  afterAll(() => simulator.close())

  const post = (scenario: Record<string, string | number>, messages: object[], more: object = {}) =>
    fetchAll(`${simulator.url}/v1/messages`, {
      headers: { 'x-api-key': 'any' },
      body: { model: sim(scenario), max_tokens: 100, stream: true, messages, ...more },
    })
  const goOn = [user, assistant('A sluice')]

  it('the official SDK gets the rest', async () => {
    const client = new Anthropic({ apiKey: 'any', baseURL: simulator.url, maxRetries: 0 })
    const messages = ways['a quotation']('A sluice').messages as Anthropic.MessageParam[]
    const model = sim({ text: 3, tool: 'weather' })
    const { content, stop_reason } = await client.messages.stream({ model, max_tokens: 100, messages }).finalMessage()
    expect(content).toMatchObject([
      { type: 'text', text: ' lets ' },
      { type: 'tool_use', name: 'weather' },
    ])
    expect(stop_reason).toBe('tool_use')
  })

  it('it is one message without streaming', async () => {
    const { body } = await post({ text: 3 }, goOn, { stream: false })
    expect(JSON.parse(body).content).toEqual([{ type: 'text', text: ' lets ' }])
  })

  it.each([
    ['a prefill', 'prefill=0', goOn, /does not support assistant message prefill.*must end with a user message\.$/],
    ['a prefill with a blank at its end', 'text=3', [user, assistant('A sluice ')], /trailing whitespace/],
    ['the end of another answer', 'text=3', ways['a quotation']('Else').messages, /quoted end/],
  ])('%s is refused with %s', async (_, scenario, messages, why) => {
    const { status, body } = await post(Object.fromEntries(new URLSearchParams(scenario)), messages as object[])
    expect([status, JSON.parse(body).error.type]).toEqual([400, 'invalid_request_error'])
    expect(JSON.parse(body).error.message).toMatch(why)
  })

  it('a quotation is taken where prefill is refused', async () => {
    const { status } = await post({ text: 3, prefill: 0 }, [...ways['a quotation']('A sluice').messages])
    expect(status).toBe(200)
  })

  it('only the first request fails, unless the scenario has it otherwise', async () => {
    const whole = async (scenario: Record<string, string | number>, messages: object[]) =>
      (await post({ text: 9, end_at: 4, ...scenario }, messages)).body.includes('message_stop')
    expect([await whole({}, [user]), await whole({}, goOn), await whole({}, goOn)]).toEqual([false, true, true])
    expect(await whole({ fail_continuations: 1 }, goOn)).toBe(false)
    const twice = { fail_first: 2 }
    expect([await whole(twice, [user]), await whole(twice, goOn), await whole(twice, goOn)]).toEqual([
      false,
      false,
      true,
    ])
  })
})
