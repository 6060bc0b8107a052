import type { Bucket } from '../core/history.ts'
import type { OpsFrame, OpsNow, OpsStream } from '../core/ops.ts'
import { duration } from './chart.ts'
import { button, byId, h } from './dom.ts'
import { KeyDialog } from './key.ts'
import { drawHour } from './ops-charts.ts'
import { WireSplitter } from './wire.ts'

const columns = [
  'Stream',
  'Age',
  'State',
  'Model',
  'Preset',
  'Principal',
  'First token',
  'Tokens/s',
  'Readers',
  'Lag',
  'Recovered',
  '',
]
const numeric = new Set(['Age', 'First token', 'Tokens/s', 'Readers', 'Lag', 'Recovered'])
/** How long it waits before it asks again, in milliseconds. */
const returnMs = 3_000
const mostBuckets = 360

let buckets: Bucket[] = []
let watching = new AbortController()
const key = new KeyDialog('sluice.ops', () => void watch())
/** Streams that somebody here has asked to be stopped. */
const stopping = new Set<string>()

function say(text: string): void {
  if (byId('status').textContent !== text) byId('status').textContent = text
}

/** Watches for as long as the page is there. */
async function watch(): Promise<void> {
  watching.abort()
  watching = new AbortController()
  const { signal } = watching
  while (!signal.aborted) {
    const isAllowed = await watchOnce(signal).catch(() => true)
    if (signal.aborted) return
    if (!isAllowed) return key.ask()
    say('The connection is lost, and made again.')
    await new Promise((resolve) => setTimeout(resolve, returnMs))
  }
}

/** @returns false when a token is needed, or another one */
async function watchOnce(signal: AbortSignal): Promise<boolean> {
  const response = await fetch('ops/events', { headers: key.headers(), signal, cache: 'no-store' })
  if (response.status === 404) say('This view is for programs on the same machine, until access.ops_token is set.')
  if (response.status === 401 || response.status === 403) say('A token of an operator is needed.')
  if (!response.ok || !response.body) return response.status >= 500 || response.status === 429
  const splitter = new WireSplitter()
  const reader = response.body.getReader()
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    for (const { text } of splitter.feed(read.value, 0)) show(JSON.parse(text.replace(/^data: ?/, '')) as OpsFrame)
  }
  return true
}

function show(frame: OpsFrame): void {
  if (frame.type === 'now') return void showNow(frame)
  buckets = [...(frame.type === 'hour' ? [] : buckets), ...frame.buckets].slice(-mostBuckets)
  byId('charts').replaceChildren(...drawHour(buckets))
}

function showNow(now: OpsNow): void {
  say(`As of ${new Date(now.at).toLocaleTimeString()}, of this server.`)
  const bad = now.pressure ?? (now.draining ? 'draining' : now.storeUp === false ? 'Redis is away' : undefined)
  byId('health').textContent = bad ?? 'takes streams'
  byId('health').className = `badge ${bad === undefined ? 'good' : 'bad'}`
  const rate = now.streams.reduce((sum, { tokensPerSecond }) => sum + (tokensPerSecond ?? 0), 0)
  const figures = {
    'Live streams': now.live.toLocaleString('en'),
    Readers: now.readers.toLocaleString('en'),
    'Tokens / s': Math.round(rate).toLocaleString('en'),
    Memory: `${Math.round(now.memoryBytes / 1_048_576)} MB`,
    'API keys resting': `${now.restingKeys} of ${now.apiKeys}`,
  }
  byId('figures').replaceChildren(
    ...Object.entries(figures).map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))),
  )
  byId('count').textContent = now.live > now.streams.length ? `the oldest ${now.streams.length} of ${now.live}` : ''
  showStreams(now.streams)
}

/** Whoever stands on a button keeps it: rows are drawn anew, and the focus goes to where it was. */
function showStreams(streams: readonly OpsStream[]): void {
  const focused = document.activeElement?.id
  const scroll = byId('table')
  if (streams.length === 0)
    return void scroll.replaceChildren(
      h('p', { class: 'empty' }, 'No stream is under way. New ones appear here by themselves.'),
    )
  const head = h(
    'tr',
    {},
    ...columns.map((name) =>
      name === '' ? h('td') : h('th', { scope: 'col', class: numeric.has(name) ? 'right' : '' }, name),
    ),
  )
  scroll.replaceChildren(h('table', {}, h('thead', {}, head), h('tbody', {}, ...streams.map(rowOf))))
  scroll.tabIndex = 0
  scroll.setAttribute('role', 'region')
  scroll.setAttribute('aria-label', 'Table of live streams')
  if (focused) document.getElementById(focused)?.focus()
}

function rowOf(stream: OpsStream): HTMLElement {
  const right = (text: string) => h('td', { class: 'right' }, text)
  const stop = button(stopping.has(stream.stream) ? 'Stopping' : 'Stop', () => void stopStream(stream.stream), {
    id: `stop-${stream.stream}`,
    'aria-label': `Stop ${stream.stream}`,
    disabled: stopping.has(stream.stream),
  })
  return h(
    'tr',
    {},
    h('td', {}, h('code', {}, stream.stream)),
    right(duration(stream.ageMs)),
    h(
      'td',
      {},
      h(
        'span',
        { class: `badge ${stream.state === 'streaming' ? 'good' : stream.state === 'ending' ? 'wait' : ''}` },
        stream.state,
      ),
    ),
    h('td', { class: 'model', title: stream.model }, stream.model),
    h('td', {}, stream.preset ?? '–'),
    h('td', {}, stream.principal === '' ? '–' : stream.principal),
    right(stream.ttftMs === null ? '–' : duration(stream.ttftMs)),
    right(stream.tokensPerSecond === null ? '–' : String(Math.round(stream.tokensPerSecond))),
    right(String(stream.readers)),
    right(
      stream.lagBytes > 0
        ? `${Math.ceil(stream.lagBytes / 1_024)} KB`
        : stream.lagEvents > 0
          ? `${stream.lagEvents} events`
          : '–',
    ),
    right(stream.recoveries > 0 ? String(stream.recoveries) : '–'),
    h('td', { class: 'right' }, stop),
  )
}

async function stopStream(id: string): Promise<void> {
  stopping.add(id)
  const response = await fetch(`ops/streams/${encodeURIComponent(id)}`, {
    method: 'DELETE',
    headers: key.headers(),
  }).catch(() => undefined)
  stopping.delete(id)
  if (!response?.ok && response?.status !== 404)
    say(`${id} could not be stopped: ${response ? `HTTP ${response.status}` : 'no answer'}.`)
}

void watch()
