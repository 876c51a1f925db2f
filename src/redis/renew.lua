-- An instance shows that it still needs slots, so that they are kept. One that was free for a time is taken again if there
-- is room, and else given up, so that nobody is counted twice.
--
-- KEYS[i]: where slot i is counted. ARGV: microseconds that a slot is kept, the time in microseconds (only in tests; else -1),
-- and for each slot how many there are, and who has it.
local now, life = tonumber(ARGV[2]), tonumber(ARGV[1])
if now < 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local kept = {}
for i, key in ipairs(KEYS) do
  local max, who = tonumber(ARGV[2 * i + 1]), ARGV[2 * i + 2]
  local ends = tonumber(redis.call('ZSCORE', key, who) or -1)
  local has = ends >= now
  if not has then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now - 1)
    has = redis.call('ZCARD', key) < max
  end
  if has then
    redis.call('ZADD', key, now + life, who)
    redis.call('PEXPIRE', key, math.ceil(life / 500))
  end
  kept[i] = has and 1 or 0
end
return kept
