import { type Block, type Frame, SluiceClientError, type Turn } from '../client/stream.ts'
import { isTerminal } from '../client/terminal.ts'
import type { AnswerView } from './answer-view.ts'
import { Attachments } from './attachments.ts'
import { sendDecision } from './decision.ts'
import { button, byId, h, painter } from './dom.ts'
import { Exchange } from './exchange.ts'
import { clearFacts, drawFacts, endFacts } from './facts-view.ts'
import { KeyDialog } from './key.ts'
import { PlotView } from './plot-view.ts'
import { chooseModel, isSimulated, loadModels, requestOptions } from './request-form.ts'
import { beginAnew, savedTalk, saveTalk } from './saved-talk.ts'
import { snippet, snippetKinds } from './snippets.ts'
import { TurnsView } from './turns-view.ts'
import { WireView } from './wire-view.ts'

const formats = ['json', 'text', 'anthropic', 'openai', 'ai-sdk', 'ag-ui']

const prompt = byId<HTMLTextAreaElement>('prompt')
const format = byId<HTMLSelectElement>('format')
const fork = byId<HTMLAnchorElement>('fork')
const wire = new WireView()
const plot = new PlotView()
const key = new KeyDialog('sluice.key', () => void greet())
const attachments = new Attachments(byId('attachments'), say)
const turns = new TurnsView({
  isSimulated,
  onIdea(text, model) {
    prompt.value = text
    if (model === undefined) return void prompt.focus()
    chooseModel(model)
    // What is simulated costs nothing: seeing it beats reading the form first.
    ask([])
  },
  onRetry: askAgain,
  onResults: (results) => ask(results),
  decide: (call, decision) => sendDecision(key.headers(), exchange?.id ?? '', call, decision),
})

/** The conversation so far; the last turn may be a question without an answer. */
let talk: Turn[] = []
let exchange: Exchange | undefined

function say(text: string): void {
  byId('status').textContent = text
}

function around(view: AnswerView) {
  let isAnswering = false
  return {
    headers: key.headers,
    format: () => format.value,
    onStatus: say,
    onWire: (frames: Parameters<WireView['add']>[0]) => wire.add(frames),
    onFrame(frame: Frame) {
      view.add(frame)
      if (frame.type === 'start') begun(frame.stream)
      if (frame.type === 'text' && !isAnswering) say('Claude is answering.')
      isAnswering ||= frame.type === 'text'
      if (frame.type === 'tool_approval') say(`${frame.name} waits for your consent.`)
      if (isTerminal(frame)) say(endFacts(frame))
      drawSoon()
    },
  }
}

/** Sends what there is: what is written, or what is given; with neither, the last question again. */
function ask(given: Block[]): void {
  if (exchange?.isLive) return
  let options: Record<string, unknown>
  try {
    options = requestOptions()
  } catch (error) {
    return void say((error as Error).message)
  }
  const content = [...given, ...attachments.blocks, ...textBlock(given)]
  if (content.length === 0 && talk.at(-1)?.role !== 'user') return void say('Write something first.')
  if (content.length > 0) addQuestion(content)
  prompt.value = ''
  attachments.clear()
  run({ body: { ...options, messages: talk } })
}

/** The last question, without what there is of its answer. */
function askAgain(): void {
  if (exchange?.isLive) return
  while (talk.at(-1)?.role === 'assistant') talk.pop()
  ask([])
}

function textBlock(given: readonly Block[]): Block[] {
  const text = prompt.value.trim()
  return text === '' || given.length > 0 ? [] : [{ type: 'text', text }]
}

/** Two questions in a row, when the first was not answered, are one. */
function addQuestion(content: Block[]): void {
  const plain = content.length === 1 && content[0]?.type === 'text' ? String(content[0]['text']) : content
  if (talk.at(-1)?.role === 'user') talk.pop()
  talk.push({ role: 'user', content: plain })
  turns.addUser({ content })
}

function run(from: ConstructorParameters<typeof Exchange>[0]): void {
  const view = turns.addAnswer()
  wire.clear()
  clearFacts()
  say('Waiting for the first token.')
  const current = new Exchange(from, around(view))
  exchange = current
  plot.show(current.series)
  showLive()
  current.read().then(
    () => ended(current, view),
    (error: unknown) => failed(current, view, error),
  )
}

function begun(id: string): void {
  byId('stream-id').textContent = id
  const url = new URL(location.href)
  url.searchParams.set('stream', id)
  history.replaceState(null, '', url)
  fork.href = url.href
  fork.removeAttribute('aria-disabled')
  if (!saveTalk({ turns: talk, stream: id })) say('This conversation is too large to be kept over a reload.')
}

/** The beginning of an answer is a part of the conversation; but a call without its result could not be sent again. */
function keepPart({ turns }: Exchange): void {
  const calls = turns.some(
    ({ content }) => typeof content !== 'string' && content.some(({ type }) => type === 'tool_use'),
  )
  if (!calls) talk = [...talk, ...turns]
}

function ended(current: Exchange, view: AnswerView): void {
  if (current.isStopped) keepPart(current)
  else talk = [...talk, ...current.turns]
  saveTalk({ turns: talk })
  const calls = [...view.tools.values()].filter(({ server, hasResult }) => !server && !hasResult)
  if (calls.length > 0 && !current.isStopped) turns.askResults(calls)
  view.drawNow()
  if (current.isStopped) {
    view.stopped()
    say('Stopped.')
  }
  turns.follow()
  drawNow()
  showLive()
}

function failed(current: Exchange, view: AnswerView, error: unknown): void {
  const known = error instanceof SluiceClientError ? error : undefined
  view.fail(known ?? { message: error instanceof Error ? error.message : String(error) })
  say(`The answer failed: ${known?.code ?? 'connection_lost'}.`)
  if (known?.status === 401) key.ask()
  keepPart(current)
  saveTalk({ turns: talk })
  drawNow()
  showLive()
}

function showLive(): void {
  const isLive = exchange?.isLive === true
  byId('send').hidden = isLive
  byId('stop').hidden = !isLive
  byId<HTMLButtonElement>('cut').disabled = !isLive
  byId<HTMLButtonElement>('new').disabled = isLive
}

function drawNow(): void {
  if (!exchange) return
  plot.draw()
  drawFacts(exchange.series)
}

const drawSoon = painter(drawNow)

async function stop(): Promise<void> {
  try {
    await exchange?.stop()
  } catch (error) {
    say(`The server could not be told to stop: ${error instanceof Error ? error.message : error}`)
  }
}

async function copy(kind: (typeof snippetKinds)[number]): Promise<void> {
  const draft = prompt.value.trim()
  const messages =
    draft === ''
      ? talk.slice(0, talk.findLastIndex(({ role }) => role === 'user') + 1)
      : [...talk, { role: 'user', content: draft }]
  try {
    if (!navigator.clipboard) throw new Error('browsers do it for https and for this machine alone')
    const body = {
      ...requestOptions(),
      messages: messages.length > 0 ? messages : [{ role: 'user', content: 'Hello' }],
    }
    const base = new URL('.', location.href).href.replace(/\/$/, '')
    await navigator.clipboard.writeText(snippet(kind, { base, body, needsKey: key.isThere }))
    byId('copied').textContent = `Copied for ${kind}.`
  } catch (error) {
    byId('copied').textContent = `Not copied: ${error instanceof Error ? error.message : error}`
  }
}

async function greet(): Promise<void> {
  const isIn = await loadModels(key.headers()).catch(() => true)
  if (!isIn) key.ask()
  const asked = new URL(location.href).searchParams.get('stream')
  const saved = savedTalk()
  if (talk.length > 0 || exchange) return
  const isOurs = asked === null || saved.stream === asked
  if (isOurs) {
    talk = [...saved.turns]
    for (const turn of talk) turn.role === 'user' ? turns.addUser(turn) : turns.addOld(turn)
  } else turns.showNote('You have joined a stream that was begun elsewhere.')
  const stream = asked !== null && (!isOurs || saved.stream !== undefined) ? asked : undefined
  if (stream !== undefined && isIn) run({ id: stream })
  else if (talk.length === 0) turns.showNothing()
}

function wireUp(): void {
  byId('plot').append(plot.element)
  byId('wire').append(wire.element)
  format.append(...formats.map((name) => h('option', {}, name)))
  format.addEventListener('change', () => {
    wire.clear()
    exchange?.showFormat(format.value)
  })
  byId('snippets').append(
    ...snippetKinds.map((kind) => button(kind, () => void copy(kind), { 'aria-label': `Copy as ${kind}` })),
  )
  byId('composer').addEventListener('submit', (event) => {
    event.preventDefault()
    ask([])
  })
  byId('stop').addEventListener('click', () => void stop())
  byId('new').addEventListener('click', beginAnew)
  byId('cut').addEventListener('click', () => exchange?.cut())
  attachments.takeFrom(byId<HTMLInputElement>('file'), byId('attach'), prompt)
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) ask([])
    else if (event.key === 'Escape' && exchange?.isLive && !byId<HTMLDialogElement>('key-dialog').open) void stop()
  })
}

wireUp()
void greet()
