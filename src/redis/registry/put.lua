-- Puts one record in place of another, or says that somebody came between.
--
-- KEYS: records by id, ids in order, ids by API key, tiers, how many are uninvited, the number of the last change.
-- ARGV: the id, the record and the tiers that were found, the new record ('' is none for all three), the difference to the
-- uninvited, the channel, how many API keys the old record had, these, and those of the new one.
local id, old, new = ARGV[1], ARGV[2], ARGV[4]
if (redis.call('HGET', KEYS[1], id) or '') ~= old or (redis.call('GET', KEYS[4]) or '') ~= ARGV[3] then return 0 end
local last = 7 + tonumber(ARGV[7])
for i = 8, last do
  if redis.call('HGET', KEYS[3], ARGV[i]) == id then redis.call('HDEL', KEYS[3], ARGV[i]) end
end
if new == '' then
  redis.call('HDEL', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
else
  redis.call('HSET', KEYS[1], id, new)
  redis.call('ZADD', KEYS[2], 0, id)
  for i = last + 1, #ARGV do redis.call('HSET', KEYS[3], ARGV[i], id) end
end
if ARGV[5] ~= '0' then redis.call('INCRBY', KEYS[5], ARGV[5]) end
local number = redis.call('INCR', KEYS[6])
redis.call('PUBLISH', ARGV[6], number .. ' client ' .. id)
return number
