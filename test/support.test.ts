import { createClient } from '@redis/client'
import { describe, expect, it, onTestFinished } from 'vitest'
import { startBalancer } from './support/balancer.ts'
import { startChaos } from './support/chaos.ts'
import { eventually, fetchAll } from './support/client.ts'
import { seeded } from './support/random.ts'
import { readStream } from './support/reader.ts'
import { type RedisOptions, startRedis } from './support/redis.ts'
import { listenOn, portOf } from './support/relay.ts'
import { startReplica, startUpstream } from './support/replica.ts'
import { serve } from './support/serve.ts'
import { sim } from './support/sluice.ts'
import { clean, judge, judgeText, textOf } from './support/transcript.ts'

/** Closes what was opened when the test ends. */
async function own<T extends AsyncDisposable>(opening: Promise<T>): Promise<T> {
  const opened = await opening
  onTestFinished(async () => opened[Symbol.asyncDispose]())
  return opened
}

const openRedis = (options?: RedisOptions) => own(startRedis(options))

async function openClient(url: string, socketTimeout = 5_000) {
  const client = createClient({ url, socket: { reconnectStrategy: false, connectTimeout: 500, socketTimeout } })
  client.on('error', () => undefined)
  await client.connect()
  onTestFinished(() => client.destroy())
  return client
}

describe('Redis of a test', () => {
  it('forgets everything when it is killed, unless it writes it down', async () => {
    for (const [options, left] of [
      [{}, null],
      [{ appendonly: 'always' }, '1'],
    ] as const) {
      const redis = await openRedis(options)
      await redis.command('SET', 'a', '1')
      await redis.kill()
      await expect(redis.command('PING')).rejects.toThrow()
      await redis.start()
      expect(await redis.command('GET', 'a')).toBe(left)
    }
  })

  it('freezes, thaws, and can be closed frozen', async () => {
    const redis = await openRedis()
    redis.freeze()
    await expect(redis.command('PING')).rejects.toThrow()
    redis.thaw()
    expect(await redis.command('PING')).toBe('PONG')
    redis.freeze()
    await redis.close()
  })

  it('refuses writes that do not fit, and evicts nothing', async () => {
    const redis = await openRedis({ maxmemory: '2mb' })
    const fill = async () => {
      for (let n = 0; n < 50; n++) await redis.command('SET', `key ${n}`, 'x'.repeat(100_000))
    }
    await expect(fill()).rejects.toThrow('OOM')
    expect(await redis.command('STRLEN', 'key 0')).toBe(100_000)
  })
})

describe('chaos', () => {
  it('loses a reply: the command was carried out, and nobody is told', async () => {
    const redis = await openRedis()
    const chaos = await own(startChaos(redis.port))
    for (let n = 1; n <= 5; n++) {
      const client = await openClient(chaos.url)
      chaos.cutAfterReply({ when: (request) => request.includes('INCR') })
      expect(await client.get('a')).toBe(n === 1 ? null : String(n - 1))
      await expect(client.incr('a')).rejects.toThrow()
      expect(await redis.command('GET', 'a')).toBe(String(n))
    }
    expect(chaos.lost).toBe(5)
    await eventually(() => chaos.connections === 0)
  })

  it('swallows, holds back, cuts and refuses', async () => {
    const redis = await openRedis()
    const chaos = await own(startChaos(redis.port))
    const waiting = await openClient(chaos.url)
    const reply = { now: '' as unknown }
    chaos.hold(true)
    waiting.ping().then((pong) => {
      reply.now = pong
    })
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(reply.now).toBe('')
    chaos.hold(false)
    await eventually(() => reply.now === 'PONG')

    chaos.blackhole(true)
    const swallowed = waiting.incr('a').catch((error: unknown) => error)
    await expect(openClient(chaos.url, 200)).rejects.toThrow()
    expect(await redis.command('GET', 'a')).toBe(null)
    chaos.blackhole(false)
    expect(await swallowed).toBeInstanceOf(Error)

    const cut = await openClient(chaos.url)
    chaos.cutAll()
    await expect(cut.ping()).rejects.toThrow()
    await chaos.refuse(true)
    await expect(openClient(chaos.url)).rejects.toThrow()
    await chaos.refuse(false)
    expect(await (await openClient(chaos.url)).ping()).toBe('PONG')
  })
})

describe('the balancer', () => {
  it('takes targets in turn, and passes over those that refuse', async () => {
    const one = await serve((_, response) => response.end('one'))
    const two = await serve((_, response) => response.end('two'))
    const balancer = await own(startBalancer([one, 'http://127.0.0.1:1', two]))
    const answers = new Set<string>()
    for (let n = 0; n < 4; n++) answers.add((await fetchAll(balancer.url)).body)
    expect([...answers].sort()).toEqual(['one', 'two'])
    balancer.setTargets([one])
    for (let n = 0; n < 3; n++) expect((await fetchAll(balancer.url)).body).toBe('one')
  })

  it('cuts answers after the bytes it was told', async () => {
    const target = await serve((_, response) => response.end('x'.repeat(100_000)))
    const cutting = { random: seeded(1), leastBytes: 500, mostBytes: 1_000 }
    const balancer = await own(startBalancer([target], cutting))
    const { body } = await fetchAll(balancer.url)
    expect(body.length).toBeGreaterThan(200)
    expect(body.length).toBeLessThan(1_000)
    balancer.setCutting(undefined)
    expect((await fetchAll(balancer.url)).body).toHaveLength(100_000)
  })

  it('hangs up when nobody is there', async () => {
    const balancer = await own(startBalancer([]))
    await expect(fetchAll(balancer.url)).rejects.toThrow()
  })
})

describe('a replica', () => {
  it('streams, dies, stops and ends', async () => {
    const upstream = await own(startUpstream())
    const replica = await own(startReplica({ ANTHROPIC_BASE_URL: upstream.url }))
    const model = sim({ text: 5, stamp: 1 })
    const path = `/stream?${new URLSearchParams({ prompt: 'hello', model })}`
    const transcript = await readStream({ bases: [replica.url], path })
    expect(judge(transcript)).toEqual(clean())
    expect(judgeText(textOf(transcript), 5)).toEqual({ lost: 0, duplicated: 0, out_of_order: 0 })
    expect([upstream.calls('hello'), upstream.calls('other'), upstream.cancelled(), upstream.open]).toEqual([
      1, 0, 0, 0,
    ])
    await eventually(() => replica.log.some(({ message }) => message === 'stream ended'))
    replica.pause()
    replica.resume()
    expect(await replica.terminate()).toBe(0)
    const other = await own(startReplica({ ANTHROPIC_BASE_URL: upstream.url }))
    await other.kill()
    expect(other.running).toBe(false)
  })

  it('tells why it did not start', async () => {
    await expect(startReplica({ PORT: 'banana' })).rejects.toThrow('server.port')
  })
})

it('a free port is one nobody listens on', async () => {
  const server = await listenOn(0, (socket) => socket.destroy())
  expect(portOf(server)).toBeGreaterThan(0)
  server.close()
  expect(() => portOf(server)).toThrow()
})
