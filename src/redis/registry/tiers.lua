-- Puts tiers in place of others, or says that somebody came between.
--
-- KEYS: tiers, the number of the last change. ARGV: the tiers that were found, the new ones, the channel.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
local number = redis.call('INCR', KEYS[2])
redis.call('PUBLISH', ARGV[3], number .. ' tiers')
return number
