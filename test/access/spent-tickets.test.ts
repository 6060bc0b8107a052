import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { RedisSpentTickets, ticketScripts } from '../../src/access/redis-tickets.ts'
import { LocalSpentTickets } from '../../src/access/spent-tickets.ts'
import type { SpentTickets } from '../../src/core/ports.ts'
import { Sweep } from '../../src/core/sweep.ts'
import { RedisLink } from '../../src/redis/link.ts'
import { eventually } from '../support/client.ts'
import { type Redis, startRedis } from '../support/redis.ts'

const quiet = { info() {}, warn() {} }
const inAMinute = () => Date.now() + 60_000
let redis: Redis
let links: RedisLink<typeof ticketScripts>[]

beforeAll(async () => {
  redis = await startRedis()
  links = [1, 2].map(
    () => new RedisLink({ url: redis.url, timeoutMs: 1_000, scripts: ticketScripts, sweep: new Sweep(), log: quiet }),
  )
  await eventually(() => links.every(({ upSince }) => upSince !== undefined), 5_000)
})

afterAll(async () => {
  for (const link of links) link.close()
  await redis[Symbol.asyncDispose]()
})

/** What two who share the used tickets have of them. */
const places: Record<string, () => readonly [SpentTickets, SpentTickets]> = {
  memory() {
    const one = new LocalSpentTickets()
    return [one, one]
  },
  Redis() {
    const [here, there] = links.map((link) => new RedisSpentTickets(link, 'test'))
    if (!here || !there) throw new Error('no links')
    return [here, there]
  },
}

let tickets = 0
const newTicket = () => `t${++tickets}`

describe.each(Object.keys(places))('a ticket, in %s', (name) => {
  const open = () => places[name]?.() ?? []

  it('is tied to the first stream that it is used for', async () => {
    const [here, there] = open() as [SpentTickets, SpentTickets]
    const [ticket, other] = [newTicket(), newTicket()]
    expect(await here.find(ticket)).toBeUndefined()
    const tied = await Promise.all([here.bind(ticket, 's1', inAMinute()), there.bind(ticket, 's2', inAMinute())])
    expect(new Set(tied).size).toBe(1)
    expect([await there.find(ticket), await here.bind(other, 's3', inAMinute())]).toEqual([tied[0], 's3'])
  })

  it('is as new when nothing came of its stream', async () => {
    const [here, there] = open() as [SpentTickets, SpentTickets]
    const ticket = newTicket()
    await here.bind(ticket, 's1', inAMinute())
    await there.free(ticket, 's2')
    expect(await here.find(ticket)).toBe('s1')
    await there.free(ticket, 's1')
    expect(await here.bind(ticket, 's2', inAMinute())).toBe('s2')
  })
})

it('in Redis it does not stay for ever, nor is it read there', async () => {
  const [link] = links
  if (!link) throw new Error('no link')
  const spent = new RedisSpentTickets(link, 'ttl')
  await spent.bind('secret-ticket', 's1', Date.now() + 50)
  expect(await link.send((client) => client.keys('ttl:*'))).toEqual([expect.not.stringContaining('secret-ticket')])
  await eventually(async () => (await spent.find('secret-ticket')) === undefined, 2_000)
})

it('nobody knows of it while Redis is away', async () => {
  const link = new RedisLink({
    url: 'redis://127.0.0.1:1',
    timeoutMs: 100,
    scripts: ticketScripts,
    sweep: new Sweep(),
    log: quiet,
  })
  const spent = new RedisSpentTickets(link, 'away')
  await expect(spent.bind('t', 's', inAMinute())).rejects.toMatchObject({ code: 'store_unavailable' })
  await expect(spent.find('t')).rejects.toMatchObject({ code: 'store_unavailable' })
  await spent.free('t', 's')
  link.close()
})

it('in memory it is forgotten when its time is over, and not before, however many there are', async () => {
  let now = 0
  const spent = new LocalSpentTickets(() => now, 3)
  for (const n of [1, 2, 3]) await spent.bind(`t${n}`, 's', n * 10)
  await expect(spent.bind('t4', 's', 40)).rejects.toMatchObject({ code: 'too_many_streams' })
  now = 20
  expect(await spent.bind('t4', 's4', 40)).toBe('s4')
  expect([spent.size, await spent.find('t1'), await spent.find('t3')]).toEqual([2, undefined, 's'])
})
