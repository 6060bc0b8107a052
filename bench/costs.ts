import { bytesOf, CountedServer, type Shape, type Use } from './counted.ts'

/**
 * What a frame and a stream may cost, counted: numbers that are the same on a slow machine, a fast one and a busy one.
 * The least of some rounds counts, as everything that disturbs adds to it.
 */
export interface Cost {
  readonly name: string
  /** What it was when its budget was set. To tighten a budget, put here what `npm run costs` says. */
  readonly measured: number
  /** How much more it may be: what it varies by from run to run, and room for what a change rightly adds. */
  readonly margin: number
  /** It counts system calls, which only Linux tells of. */
  readonly systemCalls?: true
  /** `undefined` when it could not be measured. */
  value(results: Results): number | undefined
  /** What it is there to catch. */
  readonly why: string
}

export const costs: readonly Cost[] = [
  {
    name: 'paced: reads per frame',
    measured: 1.003,
    margin: 0.05,
    systemCalls: true,
    value: ({ paced }) => paced.reads,
    why: 'each frame is a read of its own here; another is a file, a pipe or a thread that was woken',
  },
  {
    name: 'paced: writes per frame',
    measured: 1.003,
    margin: 0.05,
    systemCalls: true,
    value: ({ paced }) => paced.writes,
    why: 'a frame in two pieces, a log line per frame, a thread woken per frame',
  },
  {
    name: 'paced: asynchronous resources per frame',
    measured: 3.065,
    margin: 0.15,
    value: ({ pacedMade }) => pacedMade.all,
    why: 'a promise, a timer, an immediate or another tick per read: one more is 33 %',
  },
  {
    name: 'paced: bytes of heap per frame',
    measured: 3_840,
    margin: 0.05,
    value: ({ paced }) => paced.heap,
    why: 'garbage per read: parsing what could be cut out, copies, closures, options',
  },
  {
    name: 'paced: bytes of buffers per frame',
    measured: 278,
    margin: 0.25,
    value: ({ paced }) => paced.external,
    why: 'a buffer per read beside the one that Node reads into',
  },
  {
    name: 'full speed: writes per read',
    measured: 1,
    margin: 0.1,
    systemCalls: true,
    value: ({ full }) => full.reads && full.writes && full.writes / full.reads,
    why: 'a write per event would be 200; the kernel may cut a read in two, so that it is not per frame',
  },
  {
    name: 'full speed: asynchronous resources per frame',
    measured: 0.0277,
    margin: 0.15,
    value: ({ fullMade }) => fullMade.all,
    why: 'a promise, a timer or a tick per event would be 1',
  },
  {
    name: 'full speed: bytes of heap per frame',
    measured: 1_245,
    margin: 0.1,
    value: ({ full }) => full.heap,
    why: 'garbage per event: JSON parsed and written anew, copies of texts and frames',
  },
  {
    name: 'full speed: bytes of buffers per frame',
    measured: 264,
    margin: 0.15,
    value: ({ full }) => full.external,
    why: 'another copy of the bytes: a delta comes as 180',
  },
  {
    name: 'short stream: reads',
    measured: 3.08,
    margin: 0.3,
    systemCalls: true,
    value: ({ short }) => short.reads,
    why: 'request, head and first delta of the answer, its end; head and delta may come in two',
  },
  {
    name: 'short stream: writes',
    measured: 3.08,
    margin: 0.15,
    systemCalls: true,
    value: ({ short }) => short.writes,
    why: 'request to upstream, frames, end of them; a log line shares its write with others',
  },
  {
    name: 'short stream: asynchronous resources',
    measured: 60.5,
    margin: 0.15,
    value: ({ shortMade }) => shortMade.all,
    why: 'promises and ticks on the way from a request to its end',
  },
  {
    name: 'short stream: timers made',
    measured: 4.05,
    margin: 0.15,
    value: ({ shortMade }) => shortMade.timers,
    why: 'a timer for a clock that the sweep could look at',
  },
  {
    name: 'short stream: bytes of heap',
    measured: 77_000,
    margin: 0.1,
    value: ({ short }) => short.heap,
    why: 'what validating, building the request, a run and a log take',
  },
  {
    name: 'short stream: bytes of heap that grow old',
    measured: 1_300,
    margin: 1.3,
    value: ({ old }) => old.heap,
    why: 'of a stream that has ended, its log alone may outlive young objects; by mistake, all that hung on it did',
  },
  {
    name: 'open stream: sockets',
    measured: 2,
    margin: 0,
    value: ({ open }) => open.sockets,
    why: 'one to the client, one to upstream',
  },
  {
    name: 'open stream: timers and others that keep the loop busy',
    measured: 0,
    margin: 0,
    value: ({ open }) => open.others,
    why: 'their number must not grow with the streams: a sweep looks at all of them',
  },
  {
    name: 'open stream: bytes of heap',
    measured: 22_400,
    margin: 0.05,
    value: ({ open }) => open.heap,
    why: 'what a stream holds that waits; what kernel and C++ hold for it is not in it',
  },
  {
    name: 'open stream: bytes of buffers',
    measured: 1_898,
    margin: 0.25,
    value: ({ open }) => open.external,
    why: 'bytes that are held longer than needed: a read that a slice points into is 64 KiB',
  },
  {
    name: 'finished stream: bytes of memory per frame',
    measured: 43.9,
    margin: 0.15,
    value: ({ finished }) => finished.bytes,
    why: 'a log of 40 characters a frame that is kept for a resume; events kept as objects; a leak',
  },
]

/** Each upstream write holds one delta, as in production. */
const paced: Shape = { deltas: 1_000, perWrite: 1 }
/** Below what one read can hold. */
const full: Shape = { deltas: 10_000, perWrite: 200 }
const short: Shape = { deltas: 1, perWrite: 1 }

const warmUps = 5
const rounds = 3
const pacedStreams = 2
const shortStreams = 320
/** So many that log lines share their writes however slow the machine is. */
const shortInFlight = 16
const openBefore = 200
const openMore = 300
const finishedStreams = 5

type Quantities = Pick<Use, 'reads' | 'writes' | 'heap' | 'external'>

interface Made {
  readonly all: number
  readonly timers: number
}

export interface Results {
  /** Per frame. */
  readonly paced: Quantities
  readonly full: Quantities
  readonly pacedMade: Made
  readonly fullMade: Made
  /** Per stream. */
  readonly short: Quantities
  readonly shortMade: Made
  readonly old: Pick<Results['open'], 'heap'>
  readonly open: { readonly sockets: number; readonly others: number; readonly heap: number; readonly external: number }
  /** Per frame. */
  readonly finished: { readonly bytes: number }
}

export function budgetOf({ measured, margin }: Cost): number {
  return measured * (1 + margin)
}

/** Takes some five seconds. */
export async function measureCosts(): Promise<Results> {
  using server = await CountedServer.start()
  const loads = {
    paced: { work: () => server.stream(pacedStreams, paced), per: pacedStreams * paced.deltas },
    full: { work: () => server.stream(1, full), per: full.deltas },
    short: { work: () => server.stream(shortStreams, short, shortInFlight), per: shortStreams },
  }
  const uses: Record<keyof typeof loads, Use[]> = { paced: [], full: [], short: [] }
  const use = (name: keyof typeof loads) => server.use(loads[name].work)
  const least = (name: keyof typeof loads) => leastOf(uses[name], loads[name].per)
  const made = async (name: keyof typeof loads) => madeBy(await use(name), loads[name].per)

  await loads.short.work()
  // First, as other loads leave much behind that comes and goes.
  const open = await measureOpen(server)
  // Until V8 has compiled what is hot: before, it allocates more.
  for (let n = 0; n < warmUps; n++) for (const { work } of Object.values(loads)) await work()

  const finished = await measureFinished(server)
  for (let round = 0; round < rounds; round++) {
    await server.settled()
    for (const name of ['paced', 'full', 'short'] as const) uses[name].push(await use(name))
  }
  const old = await measureOld(server, loads.short.work)
  await server.ask('watch')
  const [pacedMade, fullMade, shortMade] = [await made('paced'), await made('full'), await made('short')]
  await server.ask('unwatch')
  return {
    paced: least('paced'),
    full: least('full'),
    short: least('short'),
    pacedMade,
    fullMade,
    shortMade,
    finished,
    old,
    open,
  }
}

function leastOf(uses: readonly Use[], per: number): Quantities {
  const least = (name: keyof Quantities) => {
    const values = uses.map((use) => use[name]).filter((value) => value !== undefined)
    return values.length === 0 ? undefined : Math.min(...values) / per
  }
  return { reads: least('reads'), writes: least('writes'), heap: least('heap'), external: least('external') }
}

function madeBy({ made }: Use, per: number): Made {
  const all = Object.values(made).reduce((sum, count) => sum + count, 0)
  return { all: all / per, timers: (made['Timeout'] ?? 0) / per }
}

/** The middle one of some rounds: something else may be given back in one of them, or come. */
async function measureFinished(server: CountedServer): Promise<Results['finished']> {
  const kept: number[] = []
  for (let round = 0, before = bytesOf(await server.settled()); round < rounds; round++) {
    await server.stream(finishedStreams, full)
    const after = bytesOf(await server.settled())
    kept.push((after - before) / (finishedStreams * full.deltas))
    before = after
  }
  return { bytes: kept.sort((one, other) => one - other)[Math.floor(rounds / 2)] as number }
}

/** What is left of short streams after young objects were collected, though old ones were not. */
async function measureOld(server: CountedServer, work: () => Promise<void>): Promise<Results['old']> {
  const left: number[] = []
  for (let round = 0; round < rounds; round++) {
    await server.settled()
    const before = await server.ask('collect young')
    await work()
    const after = await server.ask('collect young')
    left.push((after.heap - before.heap) / shortStreams)
  }
  return { heap: Math.min(...left) }
}

/** What more streams add to those that are open already: what is there once does not count. */
async function measureOpen(server: CountedServer): Promise<Results['open']> {
  const hangUps = [await server.hold(openBefore)]
  const before = await server.settled()
  hangUps.push(await server.hold(openMore))
  const after = await server.settled()
  for (const hangUp of hangUps) hangUp()
  const more = (kind: string) => (after.open[kind] ?? 0) - (before.open[kind] ?? 0)
  const kinds = new Set([...Object.keys(after.open), ...Object.keys(before.open)])
  const all = [...kinds].reduce((sum, kind) => sum + more(kind), 0)
  const sockets = more('TCPSocketWrap')
  return {
    sockets: sockets / openMore,
    others: (all - sockets) / openMore,
    heap: (after.heap - before.heap) / openMore,
    external: (after.external - before.external) / openMore,
  }
}
