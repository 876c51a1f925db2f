-- An instance joins, or says that it still lives: whose secret is in use here, and how many instances live.
--
-- KEYS: the secret's fingerprint, the set of instances, the former secret's fingerprint while it is still counted by. ARGV: our
-- fingerprint, our name, milliseconds that a sign of life lasts, the fingerprint of our former secret or nothing, and the
-- milliseconds that anything is owed.
local ours, before, window = ARGV[1], ARGV[4], tonumber(ARGV[5])
local found, former = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[3])
if not found or (found == before and found ~= ours) then
  redis.call('SET', KEYS[1], ours)
  -- Others may have counted by the former one until now.
  if before ~= '' then redis.call('SET', KEYS[3], before, 'PX', window) end
elseif found ~= ours then
  if former ~= ours then return { found, 0 } end
  -- It counts by the former one alone, so that all goes on by both.
  if redis.call('PTTL', KEYS[3]) < window then redis.call('PEXPIRE', KEYS[3], window) end
elseif before == '' and former then
  -- It would not see what is counted by the former one alone.
  return { former, redis.call('PTTL', KEYS[3]) }
end
local time = redis.call('TIME')
local now, life = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[3])
redis.call('ZADD', KEYS[2], now, ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - life)
-- Signs of life from before the clock was set back.
redis.call('ZREMRANGEBYSCORE', KEYS[2], now + life, '+inf')
redis.call('PEXPIRE', KEYS[2], life)
return { ours, redis.call('ZCARD', KEYS[2]) }
