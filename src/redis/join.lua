-- An instance joins, or says that it still lives: whose secret is in use here, and how many instances live.
--
-- KEYS: the secret's fingerprint, the set of instances. ARGV: our fingerprint, our name, milliseconds that a sign of life
-- lasts.
if not redis.call('SET', KEYS[1], ARGV[1], 'NX') then
  local found = redis.call('GET', KEYS[1])
  if found ~= ARGV[1] then return { found, 0 } end
end
local time = redis.call('TIME')
local now, life = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[3])
redis.call('ZADD', KEYS[2], now, ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - life)
-- Signs of life from before the clock was set back.
redis.call('ZREMRANGEBYSCORE', KEYS[2], now + life, '+inf')
redis.call('PEXPIRE', KEYS[2], life)
return { ARGV[1], redis.call('ZCARD', KEYS[2]) }
