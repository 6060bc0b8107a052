import type { Link } from '../../redis/link.ts'
import { script } from '../../redis/script.ts'

/**
 * Everything that changes a stream in Redis, each step as one script: it either happens whole or not at all, and can be
 * repeated when its reply was lost. A stream is written by one owner under one epoch; a new owner begins a new epoch,
 * and whatever the old one still sends is refused.
 */

/**
 * Adds a batch of events and rings the bell of the replicas that follow; the first batch of a stream makes it, and
 * the first of each epoch has all of it kept for another run's length.
 * @returns `ok`; or `gone`; or why not, as `<epoch> <last event> <state>`, from which the owner sees how to go on
 */
const appendScript = `
local id, replica, created, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local epoch, first, last, lines, state = ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8], ARGV[9]
local now = redis.call('HMGET', KEYS[1], 'epoch', 'n', 'state', 'began')
if not now[1] then
  if first ~= 1 then return 'gone' end
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'began', 0, 'n', 0, 'state', 'live', 'owner', replica,
    'created', created, 'key', ARGV[11], 'alias', ARGV[12], 'principal', ARGV[15])
  redis.call('SADD', KEYS[3], id)
  if ARGV[12] ~= '' then redis.call('SET', KEYS[4], id, 'PX', ttl) end
  now = {epoch, '0', 'live', '0'}
end
if now[1] ~= epoch or now[3] ~= 'live' or tonumber(now[2]) ~= first - 1 then
  return table.concat(now, ' ', 1, 3)
end
if ARGV[14] ~= '' then redis.call('SET', KEYS[6], ARGV[14], 'PX', ttl) end
redis.call('XADD', KEYS[2], last .. '-0', 'e', lines)
redis.call('HSET', KEYS[1], 'n', last, 'state', state)
if now[2] == now[4] or state ~= 'live' then
  for _, key in ipairs({KEYS[1], KEYS[2], KEYS[6]}) do redis.call('PEXPIRE', key, ttl) end
  if ARGV[12] ~= '' and redis.call('GET', KEYS[4]) == id then redis.call('PEXPIRE', KEYS[4], ttl) end
end
if state ~= 'live' then
  redis.call('DEL', KEYS[6])
  redis.call('SREM', KEYS[3], id)
  if ARGV[12] ~= '' and redis.call('GET', KEYS[4]) == id then redis.call('DEL', KEYS[4]) end
  if ARGV[10] == 'free' and string.sub(redis.call('GET', KEYS[5]) or '', 1, #id) == id then
    redis.call('DEL', KEYS[5])
  end
end
for inbox in string.gmatch(ARGV[13], '%S+') do redis.call('PUBLISH', inbox, 'bell ' .. id) end
return 'ok'
`

/**
 * Gives an idempotency key to a new stream and makes the stream, empty.
 * @returns what the key stood for before, if it did
 */
const claimScript = `
local id, replica, created, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local earlier = redis.call('GET', KEYS[1])
if earlier then return earlier end
redis.call('SET', KEYS[1], id .. ' ' .. ARGV[5], 'PX', ARGV[6])
redis.call('HSET', KEYS[2], 'epoch', 1, 'began', 0, 'n', 0, 'state', 'live', 'owner', replica,
  'created', created, 'key', ARGV[7], 'alias', ARGV[8], 'principal', ARGV[9])
redis.call('PEXPIRE', KEYS[2], ttl)
redis.call('SADD', KEYS[3], id)
if ARGV[8] ~= '' then redis.call('SET', KEYS[4], id, 'PX', ttl) end
return false
`

/**
 * Makes this replica the owner of a stream whose owner is dead. A replica may also take over from itself: a stream that
 * it began without knowing, because the reply was lost.
 * @returns the new epoch, the last event, the key, the alias, created, the principal; nothing when there is nothing to take over
 */
const takeOverScript = `
local id, owner, replica = ARGV[1], ARGV[2], ARGV[3]
local now = redis.call('HMGET', KEYS[1], 'epoch', 'n', 'state', 'owner', 'key', 'alias', 'created', 'principal')
if now[3] ~= 'live' or now[4] ~= owner then
  redis.call('SREM', KEYS[3], id)
  return false
end
if owner ~= replica and redis.call('EXISTS', KEYS[2]) == 1 then return false end
local epoch = tonumber(now[1]) + 1
redis.call('HSET', KEYS[1], 'epoch', epoch, 'began', now[2], 'owner', replica)
redis.call('SREM', KEYS[3], id)
redis.call('SADD', KEYS[4], id)
return {tostring(epoch), now[2], now[5], now[6], now[7], now[8]}
`

/** Forgets a replica, unless it has come back meanwhile. */
const forgetScript = `
if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then return 0 end
return redis.call('SREM', KEYS[1], ARGV[1])
`

/** Marks a stream as one whose owner holds more of it than Redis ever will again. */
const cutScript = `
local now = redis.call('HMGET', KEYS[1], 'epoch', 'state')
if now[1] ~= ARGV[2] or now[2] ~= 'live' then return 0 end
redis.call('HSET', KEYS[1], 'state', 'cut')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('DEL', KEYS[4])
redis.call('SREM', KEYS[3], ARGV[1])
return 1
`

/**
 * Reads the state of a stream and the batches after event `ARGV[1]`, at most `ARGV[2]` of them, in one moment; nothing
 * of one that is another principal's than `ARGV[3]`, where there is one.
 * @returns epoch, `began`, last event, state, owner, created, principal, then last event and lines of each batch, flat
 */
const readScript = `
local now = redis.call('HMGET', KEYS[1], 'epoch', 'began', 'n', 'state', 'owner', 'created', 'principal')
if not now[1] or (ARGV[3] and now[7] ~= ARGV[3]) then return false end
if tonumber(now[3]) > tonumber(ARGV[1]) then
  for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '(' .. ARGV[1] .. '-0', '+', 'COUNT', ARGV[2])) do
    now[#now + 1] = entry[1]
    now[#now + 1] = entry[2][2]
  end
end
return now
`

export const logScripts = {
  appendBatch: script<string>(appendScript),
  claimKey: script<string | null>(claimScript),
  takeOver: script<(string | null)[] | null>(takeOverScript),
  forgetReplica: script<number>(forgetScript),
  cut: script<number>(cutScript),
  readBatches: script<(string | null)[] | null>(readScript),
}

export type LogLink = Link<typeof logScripts>
