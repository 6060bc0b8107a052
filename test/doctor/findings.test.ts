import { describe, expect, it } from 'vitest'
import { type Finding, findingsOf, heldBack, productOf } from '../../src/doctor/findings.ts'
import type { Arrival, Observation, Observed } from '../../src/doctor/observation.ts'

const sent = { 'last-event-id': 'doctor.7', accept: 'text/event-stream', 'x-request-id': 'doctor-1' }

function arrivals(late: (n: number) => number, seen: Record<string, string> = sent): Arrival[] {
  const hello: Arrival = { frame: { type: 'hello', heartbeat_ms: 15_000, http: '1.1', seen }, at: 40 + late(0) }
  const ticks = Array.from({ length: 20 }, (_, index): Arrival => {
    const n = index + 1
    return { frame: { type: 'tick', n, sent_ms: n * 100 }, at: 40 + n * 100 + late(n) }
  })
  return [hello, ...ticks]
}

function observed(more: Partial<Observed> = {}): Observed {
  return {
    id: 'a',
    status: 200,
    http: '1.1',
    headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-cache, no-transform', 'x-stream-id': 'a' },
    arrivals: arrivals(() => 0),
    end: 'done',
    endAt: 2_050,
    ...more,
  }
}

function observation(more: Partial<Observation> = {}): Observation {
  return { url: 'http://127.0.0.1:8787/', paced: observed(), bare: observed(), silenceMs: 0, sent, ...more }
}

const wrong = (more: Partial<Observation>) => findingsOf(observation(more)).filter(({ level }) => level !== 'good')
const named = (findings: Finding[]) => findings.map(({ about, level }) => `${about} ${level}`)

/** All frames at the end, as who buffers a whole response hands them on. */
const atOnce = (n: number) => (20 - n) * 100
/** Five frames at a time. */
const inBlocks = (n: number) => (4 - (n % 5)) * 100
const at = (name: string, value: string | undefined) => {
  const headers: Record<string, string> = { ...observed().headers }
  if (value === undefined) delete headers[name]
  else headers[name] = value
  return observed({ headers })
}
const silent = (more: Partial<Observed>) => observed({ arrivals: arrivals(() => 0).slice(0, 1), ...more })
const origin = 'https://app.example.com'
const permission = { 'access-control-allow-origin': origin, 'access-control-expose-headers': 'X-Stream-Id' }
const refused = (status: number, code: string) =>
  observed({ status, arrivals: [], body: JSON.stringify({ error: { code, message: `Not with ${code}.` } }) })
const cors = { origin, preflight: permission, preflightStatus: 204, headers: permission }

describe('findings', () => {
  it('are all good where nothing is in the way', () => {
    const all = findingsOf(observation({ silent: silent({}), silenceMs: 40_000, left: 'left', cors }))
    expect(all.filter(({ level }) => level !== 'good')).toEqual([])
    expect(new Set(all.map(({ about }) => about)).size).toBeGreaterThan(7)
  })

  it('says in the words of Sluice why that refuses', () => {
    const [finding] = wrong({ paced: refused(401, 'unauthorized') })
    expect(finding?.says).toBe('http://127.0.0.1:8787/ answers 401: Not with unauthorized. (unauthorized)')
  })

  it.each<[string, Partial<Observation>, string[]]>([
    ['nothing answers', { unreachable: 'connect ECONNREFUSED', paced: undefined }, ['reach fault']],
    ['Sluice lets that page not in', { paced: refused(403, 'origin_not_allowed'), sent: { origin } }, ['cors fault']],
    ['something else answers', { paced: observed({ status: 404, arrivals: [], body: 'Not Found' }) }, ['reach fault']],
    ['a page answers', { paced: observed({ arrivals: [], body: '<html>' }) }, ['reach fault']],
    ['all comes at once', { paced: observed({ arrivals: arrivals(atOnce) }) }, ['buffering fault']],
    ['it comes in blocks', { paced: observed({ arrivals: arrivals(inBlocks) }) }, ['buffering fault']],
    ['a header alone prevents that', { bare: observed({ arrivals: arrivals(atOnce) }) }, ['buffering warning']],
    ['one frame is late', { paced: observed({ arrivals: arrivals((n) => (n === 7 ? 900 : 0)) }) }, []],
    ['it is compressed', { paced: at('content-encoding', 'gzip') }, ['compression fault']],
    ['it comes from a cache', { paced: at('x-stream-id', 'b') }, ['caching fault']],
    ['headers are changed', { paced: at('cache-control', 'public') }, ['response headers warning']],
    ['headers are taken away', { paced: at('x-stream-id', undefined) }, ['response headers warning']],
    ['the whole was collected', { paced: at('content-length', '999') }, ['response headers fault']],
    ['a position does not arrive', { sent: { ...sent, 'last-event-id': 'b' } }, ['request headers fault']],
    ['an origin does not arrive', { sent: { ...sent, origin } }, ['request headers warning']],
    ['a proxy has request ids of its own', { sent: { ...sent, 'x-request-id': 'other' } }, []],
    ['silence is cut before a heartbeat', { silent: silent({ end: 'cut', endAt: 10_040 }) }, ['idle fault']],
    ['silence is cut soon after one', { silent: silent({ end: 'cut', endAt: 25_040 }) }, ['idle warning']],
    ['silence is cut late', { silent: silent({ end: 'cut', endAt: 60_040 }) }, []],
    ['leaving is not told', { left: 'open' }, ['leaving fault']],
    ['nobody can tell', { left: 'unknown' }, []],
    ['it is far away under a name that begins near', { url: 'http://localhost.example.com/' }, ['http2 warning']],
    ['it is far away and plain', { url: 'http://example.com/' }, ['http2 warning']],
    ['it is TLS without HTTP/2', { url: 'https://example.com/' }, ['http2 warning']],
    ['pages may not', { cors: { ...cors, headers: {} } }, ['cors fault']],
    [
      'pages may twice',
      { cors: { ...cors, headers: { 'access-control-allow-origin': `${origin}, *` } } },
      ['cors fault'],
    ],
    ['pages may not POST', { cors: { ...cors, preflight: {}, preflightStatus: 404 } }, ['cors fault']],
    ['pages see no id', { cors: { ...cors, headers: { 'access-control-allow-origin': origin } } }, ['cors warning']],
  ])('when %s', (_, seen, expected) => {
    expect(named(wrong(seen))).toEqual(expected)
  })

  it('say what to change, and nothing where nothing has to be', () => {
    for (const { about, level, advice } of findingsOf(
      observation({ paced: observed({ arrivals: arrivals(atOnce) }) }),
    )) {
      expect(Object.keys(advice).length > 0, about).toBe(level !== 'good')
    }
  })

  it('measure lateness against the quickest frame, as clocks differ', () => {
    const shifted = arrivals((n) => 5_000 + (n === 3 ? 60 : 0))
    expect(heldBack(observed({ arrivals: shifted }))).toEqual({ ms: 60, bunches: 21 })
  })

  it.each([
    [{ server: 'nginx/1.27' }, 'nginx'],
    [{ server: 'cloudflare', 'cf-ray': 'x' }, 'Cloudflare'],
    [{ via: '1.1 Caddy' }, 'Caddy'],
    [{ server: 'istio-envoy' }, 'Envoy'],
    [{ server: 'awselb/2.0' }, 'AWS ALB'],
    [{ via: '1.1 google' }, 'Google Cloud'],
    [{}, undefined],
  ])('know %j', (headers, product) => {
    expect(productOf(headers)).toBe(product)
  })
})
