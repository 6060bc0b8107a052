import type { Link } from '../../redis/link.ts'
import { script } from '../../redis/script.ts'

/**
 * An account is two keys: a hash (`full`: when all requests of a minute are there again; `day`, and of that day `tokens`,
 * `micro` and how much of both is reserved only, `rtokens` and `rmicro`; `r:<stream>`: `<day> <tokens> <micro> <rtokens>
 * <rmicro>` that a stream has taken, and reserved only) and a sorted set of the streams that are running, by when they are
 * taken for ended. A stream has a key that names its accounts with their tokens and microdollars of a day, so that any
 * replica can go on with it and settle it, and says for a while that it has been settled.
 */

/** Common to all: takes what a stream has reserved off an account, if it has not been yet. */
const release = `
local function release(account, id)
  local reserved = redis.call('HGET', account, 'r:' .. id)
  if not reserved then return nil end
  redis.call('HDEL', account, 'r:' .. id)
  local day, tokens, micro, rtokens, rmicro = string.match(reserved, '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  if redis.call('HGET', account, 'day') ~= day then return nil end
  redis.call('HINCRBY', account, 'rtokens', 0 - rtokens)
  redis.call('HINCRBY', account, 'rmicro', 0 - rmicro)
  return tokens, micro, day
end
local function add(account, field, amount)
  return redis.call('HINCRBY', account, field, string.format('%.0f', amount))
end
local function outlive(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, math.ceil(ms)) end
end
`

/**
 * Takes what is wished for if all accounts have enough of it (`take`), whoever has enough (`force`, which can be
 * repeated), or nothing (`look`). What a stream had reserved that nobody has ended in time is spent.
 * `KEYS`: replicas, the stream's key, then hash and set of each account. `ARGV`: mode, now, day, until tomorrow, when the
 * stream is taken for ended, stream, tokens, microdollars, then requests a minute, streams, tokens and microdollars of
 * each account; `-` for no limit.
 * @returns the account that has not enough, counted from 1, or 0; its limit; whether it is reserved only; until it may be
 * different; how many replicas there are; then of each account: until it is full, streams, tokens, microdollars
 */
const takeScript = `${release}
local mode, now, day, rest, ends, id = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local tokens, micro = tonumber(ARGV[7]), tonumber(ARGV[8])
local refusal
local states = {}
for n = 1, (#KEYS - 2) / 2 do
  local account, live, at = KEYS[2 * n + 1], KEYS[2 * n + 2], 4 + 4 * n
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', live, '-inf', now, 'LIMIT', 0, 100)) do
    redis.call('ZREM', live, gone)
    release(account, gone)
  end
  local found = redis.call('HMGET', account, 'full', 'day', 'tokens', 'micro', 'rtokens', 'rmicro')
  -- A clock that is a little behind begins no day again that is over.
  local theday = math.max(tonumber(found[2] or 0), day)
  local today = tonumber(found[2]) == theday
  local s = {
    full = math.max(tonumber(found[1] or 0), now), today = today, day = theday, streams = redis.call('ZCARD', live),
    tokens = today and tonumber(found[3]) or 0, micro = today and tonumber(found[4]) or 0,
    rtokens = today and tonumber(found[5]) or 0, rmicro = today and tonumber(found[6]) or 0,
    rpm = tonumber(ARGV[at + 1]), max = tonumber(ARGV[at + 2]),
    maxtokens = tonumber(ARGV[at + 3]), maxmicro = tonumber(ARGV[at + 4]),
  }
  states[n] = s
  if mode == 'take' and not refusal then
    local each = s.rpm and 60000 / s.rpm
    local wait = each and s.full + each - now - math.max(60000, each) or 0
    if id ~= '' and s.maxtokens and s.tokens >= s.maxtokens then
      refusal = {n, 'tokens_per_day', s.tokens - s.rtokens < s.maxtokens and 1 or 0, rest}
    elseif id ~= '' and s.maxmicro and s.micro >= s.maxmicro then
      refusal = {n, 'usd_per_day', s.micro - s.rmicro < s.maxmicro and 1 or 0, rest}
    elseif wait > 0.001 then
      refusal = {n, 'requests_per_minute', 0, wait}
    elseif id ~= '' and s.max and s.streams >= s.max then
      refusal = {n, 'concurrent_streams', 0, 0}
    end
  end
end
local accounts = {}
for n = 1, #states do
  local at = 4 + 4 * n
  accounts[n] = table.concat({KEYS[2 * n + 1], KEYS[2 * n + 2], ARGV[at + 3], ARGV[at + 4]}, ' ')
end
local takes = not refusal and mode ~= 'look'
if mode == 'force' and redis.call('EXISTS', KEYS[2]) == 1 then takes = false end
if takes and id ~= '' then
  redis.call('SET', KEYS[2], table.concat(accounts, ' '), 'PX', ends - now + 60000)
end
for n, s in ipairs(states) do
  local account, live = KEYS[2 * n + 1], KEYS[2 * n + 2]
  local ttl = 0
  if takes and s.rpm then
    s.full = s.full + 60000 / s.rpm
    redis.call('HSET', account, 'full', string.format('%.3f', s.full))
    ttl = s.full - now
  end
  if takes and id ~= '' then
    redis.call('ZADD', live, ends, id)
    outlive(live, ends - now + 60000)
    s.streams = s.streams + 1
    ttl = math.max(ttl, ends - now)
    if s.maxtokens or s.maxmicro then
      if not s.today then
        redis.call('HSET', account, 'day', s.day, 'tokens', 0, 'micro', 0, 'rtokens', 0, 'rmicro', 0)
      end
      s.tokens = redis.call('HINCRBY', account, 'tokens', tokens)
      s.micro = redis.call('HINCRBY', account, 'micro', micro)
      redis.call('HINCRBY', account, 'rtokens', tokens)
      redis.call('HINCRBY', account, 'rmicro', micro)
      redis.call('HSET', account, 'r:' .. id, table.concat({s.day, ARGV[7], ARGV[8], ARGV[7], ARGV[8]}, ' '))
      ttl = math.max(ttl, rest)
    end
  end
  if ttl > 0 then outlive(account, ttl + 60000) end
end
local reply = refusal or {0, '', 0, 0}
reply[5] = redis.call('SCARD', KEYS[1])
for _, s in ipairs(states) do
  for _, each in ipairs({s.full - now, s.streams, s.tokens, s.micro}) do reply[#reply + 1] = each end
end
for n, each in ipairs(reply) do
  if type(each) == 'number' then reply[n] = string.format('%.3f', each) end
end
return reply
`

/**
 * Puts what a stream has used in the place of what it has taken, and takes more if all its accounts have something of the
 * day left, or it needs no more than it had.
 * `KEYS`: the stream's key. `ARGV`: stream, day, until tomorrow, tokens and microdollars used (empty: as taken), tokens and
 * microdollars wished for.
 * @returns the account that has not enough, counted from 1, or 0; its limit; whether it is reserved only; until it may be
 * different. Nothing for a stream that is not known
 */
const takeMoreScript = `${release}
local id, today, rest, tokens, micro = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[6]), tonumber(ARGV[7])
local known = redis.call('GET', KEYS[1])
if not known or known == 'settled' then return {} end
local refusal
local n, states = 0, {}
for account, maxtokens, maxmicro in string.gmatch(known, '(%S+) %S+ (%S+) (%S+)') do
  n = n + 1
  local taken, takenMicro, day = release(account, id)
  if taken then
    local used, usedMicro = tonumber(ARGV[4]) or tonumber(taken), tonumber(ARGV[5]) or tonumber(takenMicro)
    local all, allMicro = add(account, 'tokens', used - taken), add(account, 'micro', usedMicro - takenMicro)
    local reserved = redis.call('HMGET', account, 'rtokens', 'rmicro')
    local covered = used + tokens <= tonumber(taken) and usedMicro + micro <= tonumber(takenMicro)
    -- What began on another day was that day's.
    if not covered and not refusal and tonumber(day) >= today then
      if all >= (tonumber(maxtokens) or math.huge) then
        refusal = {n, 'tokens_per_day', all - reserved[1] < tonumber(maxtokens) and 1 or 0, rest}
      elseif allMicro >= (tonumber(maxmicro) or math.huge) then
        refusal = {n, 'usd_per_day', allMicro - reserved[2] < tonumber(maxmicro) and 1 or 0, rest}
      end
    end
    states[#states + 1] = {account = account, day = day, used = used, usedMicro = usedMicro}
  end
end
if refusal then tokens, micro = 0, 0 end
for _, s in ipairs(states) do
  add(s.account, 'tokens', tokens)
  add(s.account, 'micro', micro)
  add(s.account, 'rtokens', tokens)
  add(s.account, 'rmicro', micro)
  local all = string.format('%s %.0f %.0f %.0f %.0f', s.day, s.used + tokens, s.usedMicro + micro, tokens, micro)
  redis.call('HSET', s.account, 'r:' .. id, all)
end
return refusal or {0}
`

/**
 * Ends a stream's reservation, once. A stream that was let in while Redis was away has none, and is added.
 * `KEYS`: the stream's key. `ARGV`: stream, tokens, microdollars (empty: as reserved), `settle` or `give back`, how long to
 * remember, day, until tomorrow; then of each account, as its replica knows it, the two keys, milliseconds for a request
 * and whether its streams are counted.
 */
const settleScript = `${release}
local id, tokens, micro, how, day, rest = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[6], tonumber(ARGV[7])
local known = redis.call('GET', KEYS[1])
if known == 'settled' then return 0 end
if known then
  local names = {}
  for name in string.gmatch(known, '%S+') do names[#names + 1] = name end
  for n = 1, #names, 4 do
    local reserved, reservedMicro = release(names[n], id)
    redis.call('ZREM', names[n + 1], id)
    if reserved then
      add(names[n], 'tokens', (tonumber(tokens) or reserved) - reserved)
      add(names[n], 'micro', (tonumber(micro) or reservedMicro) - reservedMicro)
    end
  end
end
for n = 8, #ARGV, 4 do
  local account, each, counted = ARGV[n], ARGV[n + 2], ARGV[n + 3] == '1'
  if known and how == 'give back' and each ~= '' then
    local full = redis.call('HGET', account, 'full')
    if full then redis.call('HSET', account, 'full', string.format('%.3f', tonumber(full) - each)) end
  elseif not known and how == 'settle' and counted then
    local today = redis.call('HGET', account, 'day')
    if not today or tonumber(today) < tonumber(day) then
      redis.call('HSET', account, 'day', day, 'tokens', 0, 'micro', 0, 'rtokens', 0, 'rmicro', 0)
      today = day
    end
    if today == day then
      redis.call('HINCRBY', account, 'tokens', tokens)
      redis.call('HINCRBY', account, 'micro', micro)
      outlive(account, rest + 60000)
    end
  end
end
if known or #ARGV > 7 then redis.call('SET', KEYS[1], 'settled', 'PX', ARGV[5]) end
return 1
`

export const limitScripts = {
  takeLimits: script<string[]>(takeScript),
  takeMoreLimits: script<(number | string)[]>(takeMoreScript),
  settleLimits: script<number>(settleScript),
}

export type LimitLink = Link<typeof limitScripts>
