import { type Ailment, adviceFor, type Product } from './advice.ts'
import { type Observation, type Observed, refusalIn } from './observation.ts'

/** What was found out about one thing. */
export interface Finding {
  readonly about: Ailment | 'reach'
  readonly level: 'good' | 'warning' | 'fault'
  readonly says: string
  /** What to change, for the programs and services that may stand in between. */
  readonly advice: Partial<Record<Product, string>>
}

/** Frames later than this, measured against the quickest of them, were held back, in milliseconds. */
const heldBackMs = 250

/** What an observation means: a pure function, for the terminal and for a page alike. */
export function findingsOf(seen: Observation): Finding[] {
  const { paced } = seen
  if (seen.unreachable !== undefined || !paced)
    return [finding('reach', 'fault', `${seen.url} cannot be reached: ${seen.unreachable ?? 'nothing came back'}.`)]
  if (paced.status !== 200 || paced.arrivals[0]?.frame.type !== 'hello') return [notAStream(seen, paced)]
  const { seen: arrived, http } = paced.arrivals[0].frame
  return [
    finding('reach', 'good', `${seen.url} streams, over HTTP/${paced.http}.`),
    caching(paced),
    compression(paced),
    buffering(paced, seen.bare),
    ...requestHeaders(seen.sent, arrived),
    ...responseHeaders(paced),
    ...idle(seen),
    ...leaving(seen),
    ...oldHttp(http),
    ...http2(seen.url, paced),
    ...cors(seen),
  ]
}

function finding(about: Finding['about'], level: Finding['level'], says: string): Finding {
  return { about, level, says, advice: about === 'reach' || level === 'good' ? {} : adviceFor(about) }
}

function notAStream({ url, sent }: Observation, { status, headers, body }: Observed): Finding {
  const told = refusalIn(body)
  if (told?.code === 'origin_not_allowed')
    return finding('cors', 'fault', `Pages of ${sent['origin']} may not read streams, nor send requests.`)
  if (told) return finding('reach', 'fault', `${url} answers ${status}: ${told.message} (${told.code})`)
  const type = headers['content-type'] ?? 'no type'
  const beginning = body ? `: ${body.slice(0, 200)}` : ''
  return finding('reach', 'fault', `${url} answers ${status} (${type}) in place of a self-test${beginning}`)
}

function caching({ id, headers }: Observed): Finding {
  const told = headers['x-stream-id']
  if (told !== undefined && told !== id)
    return finding('caching', 'fault', 'An answer of an earlier request came from a cache.')
  return finding('caching', 'good', 'Nothing comes from a cache.')
}

function compression({ headers }: Observed): Finding {
  const encoding = headers['content-encoding']
  return encoding === undefined
    ? finding('compression', 'good', 'Streams are not compressed.')
    : finding('compression', 'fault', `Streams are compressed (${encoding}): frames wait until a block is full.`)
}

/** How long the frame that waited longest was held back, in milliseconds, and in how many bunches all came. */
export function heldBack({ arrivals }: Observed): { readonly ms: number; readonly bunches: number } {
  const ways = arrivals.map(({ at, frame }) => at - (frame.type === 'tick' ? frame.sent_ms : 0))
  const gaps = arrivals.filter(({ at }, index) => index === 0 || at - (arrivals[index - 1]?.at ?? 0) > 20)
  return { ms: Math.max(...ways) - Math.min(...ways), bunches: gaps.length }
}

function buffering(paced: Observed, bare: Observed | undefined): Finding {
  const { ms, bunches } = heldBack(paced)
  const count = paced.arrivals.length
  if (ms > heldBackMs && bunches <= count / 2) {
    const how = bunches === 1 ? 'all at once' : `in ${bunches} bunches`
    return finding('buffering', 'fault', `Something buffers: ${count} frames came ${how}, up to ${seconds(ms)} late.`)
  }
  const without = bare && bare.status === 200 && bare.arrivals.length > 0 ? heldBack(bare) : undefined
  if (bare && without && without.ms > heldBackMs && without.bunches <= bare.arrivals.length / 2) {
    const says =
      'Something buffers responses, and leaves streams alone only because Sluice sends X-Accel-Buffering: no.'
    return finding('buffering', 'warning', says)
  }
  return finding('buffering', 'good', `Frames come as they are made, at most ${Math.round(ms)} ms late.`)
}

/** Why each is needed. */
const neededHeaders: Record<string, string> = {
  'last-event-id': 'a reader that reconnects gets the answer from its beginning again, or asks, and pays, anew',
  'idempotency-key': 'a request that is sent again is answered, and paid, again',
  accept: 'nobody can ask for a snapshot in place of a stream',
  origin: 'pages of other origins are refused, or let in where they should not be',
  'x-request-id': 'log lines of the two cannot be brought together',
}

function requestHeaders(sent: Observation['sent'], arrived: Readonly<Record<string, string>>): Finding[] {
  // A proxy that gives requests ids of its own is doing its work.
  const lost = Object.keys(sent).filter((name) =>
    name === 'x-request-id' ? !arrived[name] : arrived[name] !== sent[name],
  )
  if (lost.length === 0) return [finding('request headers', 'good', 'Request headers arrive as they were sent.')]
  return lost.map((name) => {
    const level = name === 'last-event-id' || name === 'idempotency-key' ? 'fault' : 'warning'
    const what = arrived[name] === undefined ? 'does not arrive' : 'arrives changed'
    return finding('request headers', level, `The request header ${name} ${what}: ${neededHeaders[name]}.`)
  })
}

function responseHeaders({ headers }: Observed): Finding[] {
  const faults: Finding[] = []
  if (!/no-transform/.test(headers['cache-control'] ?? ''))
    faults.push(
      finding(
        'response headers',
        'warning',
        `Cache-Control is ${headers['cache-control'] ?? 'gone'}: no-transform asks caches and compressors to keep off.`,
      ),
    )
  if (headers['x-stream-id'] === undefined)
    faults.push(
      finding(
        'response headers',
        'warning',
        'X-Stream-Id is gone: a client that is cut off before the first frame does not know what to resume.',
      ),
    )
  if (headers['content-length'] !== undefined)
    faults.push(
      finding(
        'response headers',
        'fault',
        'The response has a Content-Length: it was collected whole before it was sent.',
      ),
    )
  return faults.length > 0
    ? faults
    : [finding('response headers', 'good', 'Response headers arrive as they were sent.')]
}

function idle({ silent, silenceMs }: Observation): Finding[] {
  const [hello] = silent?.arrivals ?? []
  if (silent?.status !== 200 || hello?.frame.type !== 'hello') return []
  const { heartbeat_ms } = hello.frame
  if (silent.end === 'done') return [finding('idle', 'good', `A silence of ${seconds(silenceMs)} is not cut.`)]
  const after = silent.endAt - (silent.arrivals.at(-1)?.at ?? 0)
  const says = `A silent connection is cut after ${seconds(after)}; Sluice sends a heartbeat every ${seconds(heartbeat_ms)}`
  if (after <= heartbeat_ms * 1.2)
    return [
      finding(
        'idle',
        'fault',
        `${says}, which is too late: set streams.heartbeat_ms below ${Math.round(after / 2)}, or raise the limit.`,
      ),
    ]
  if (after <= heartbeat_ms * 2) return [finding('idle', 'warning', `${says}: a late heartbeat would be too late.`)]
  return [finding('idle', 'good', `${says}, in time.`)]
}

function leaving({ left }: Observation): Finding[] {
  if (left === undefined) return []
  if (left === 'left') return [finding('leaving', 'good', 'When a client leaves, the server hears of it.')]
  if (left === 'unknown')
    return [
      finding(
        'leaving',
        'good',
        'Whether the server hears of a client that leaves cannot be told: the question came to another replica.',
      ),
    ]
  return [
    finding(
      'leaving',
      'fault',
      'When a client leaves, the server does not hear of it before it writes again: Claude may be writing, and billing, for nobody.',
    ),
  ]
}

function oldHttp(http: string): Finding[] {
  if (http !== '1.0') return []
  const says =
    'A proxy speaks HTTP/1.0 to Sluice: a connection for each request, and no mark that tells a whole response from a cut one.'
  return [finding('http/1.0', 'warning', says)]
}

function http2(url: string, { http }: Observed): Finding[] {
  const { protocol, hostname } = new URL(url)
  const isHere = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname)
  if (http === '2') return [finding('http2', 'good', 'HTTP/2: a browser may have many streams at once.')]
  if (protocol === 'https:')
    return [
      finding(
        'http2',
        'warning',
        'No HTTP/2 is offered: a browser opens six connections to one host, and each stream is one.',
      ),
    ]
  return isHere
    ? []
    : [finding('http2', 'warning', 'No TLS: anybody on the way can read along, and browsers speak no HTTP/2.')]
}

function cors({ cors: tried }: Observation): Finding[] {
  if (!tried) return []
  const { origin, preflight, preflightStatus, headers } = tried
  const allowed = headers['access-control-allow-origin']
  if (allowed?.includes(','))
    return [finding('cors', 'fault', `Access-Control-Allow-Origin is there twice (${allowed}): browsers refuse that.`)]
  if (allowed !== origin && allowed !== '*')
    return [
      finding(
        'cors',
        'fault',
        `A page of ${origin} may not read streams: Access-Control-Allow-Origin is ${allowed ?? 'not there'}.`,
      ),
    ]
  if (preflightStatus >= 300 || preflight['access-control-allow-origin'] === undefined)
    return [
      finding(
        'cors',
        'fault',
        `The preflight of a POST from ${origin} is answered ${preflightStatus} without permission.`,
      ),
    ]
  const exposed = (headers['access-control-expose-headers'] ?? '').toLowerCase()
  if (!exposed.includes('x-stream-id'))
    return [finding('cors', 'warning', 'Access-Control-Expose-Headers does not name X-Stream-Id: pages cannot see it.')]
  return [finding('cors', 'good', `Pages of ${origin} may read streams and send requests.`)]
}

function seconds(ms: number): string {
  return ms < 950 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1).replace(/\.0$/, '')} s`
}

/** Whose marks a response bears, when it bears any. */
export function productOf(headers: Readonly<Record<string, string>>): Product | undefined {
  const server = `${headers['server'] ?? ''} ${headers['via'] ?? ''}`.toLowerCase()
  if (headers['cf-ray'] !== undefined || server.includes('cloudflare')) return 'Cloudflare'
  if (headers['x-envoy-upstream-service-time'] !== undefined || server.includes('envoy')) return 'Envoy'
  if (server.includes('nginx') || server.includes('openresty')) return 'nginx'
  if (server.includes('caddy')) return 'Caddy'
  if (server.includes('apache')) return 'Apache'
  if (server.includes('google')) return 'Google Cloud'
  if (server.includes('awselb')) return 'AWS ALB'
  return undefined
}
